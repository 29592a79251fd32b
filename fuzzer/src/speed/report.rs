//! What a measurement came to: a table for people, JSON and CSV for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{crash::CrashCost, reset::ResetCost};
use crate::engine::Split;

/// Where the time of one program goes on the average, in microseconds on the wall. Whatever else the machine does
/// shows mostly in `handover`, where both sides wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parts {
    /// Mutation, feedback, corpus and statistics. None of it in the bare engine.
    pub loop_microseconds: f64,
    /// Making of the program what the agent executes. The bare engine gets its programs so.
    pub lower_microseconds: f64,
    /// Putting the request where the plugin finds it.
    pub stage_microseconds: f64,
    /// Ringing, and waking each other up.
    pub handover_microseconds: f64,
    /// The reset.
    pub reset_microseconds: f64,
    /// The execution in the machine.
    pub guest_microseconds: f64,
    /// Reading completions, counters and console.
    pub read_back_microseconds: f64,
    /// Pages that resets bring back.
    pub pages: f64,
}

impl Parts {
    /// The engine's parts.
    #[must_use]
    pub fn of(split: &Split) -> Self {
        let executions = split.executions.max(1) as f64;
        let per = |time: std::time::Duration| time.as_secs_f64() * 1e6 / executions;
        Self {
            loop_microseconds: 0.0,
            lower_microseconds: 0.0,
            stage_microseconds: per(split.stage),
            handover_microseconds: per(split.handover),
            reset_microseconds: per(split.reset),
            guest_microseconds: per(split.run),
            read_back_microseconds: per(split.read),
            pages: split.dirty_pages as f64 / executions,
        }
    }

    /// The time in the engine, in microseconds.
    #[must_use]
    pub fn engine(&self) -> f64 {
        self.stage_microseconds
            + self.handover_microseconds
            + self.reset_microseconds
            + self.guest_microseconds
            + self.read_back_microseconds
    }

    fn rows(&self) -> [(&'static str, f64); 7] {
        [
            ("fuzzing loop", self.loop_microseconds),
            ("lower", self.lower_microseconds),
            ("stage", self.stage_microseconds),
            ("handover", self.handover_microseconds),
            ("reset", self.reset_microseconds),
            ("guest", self.guest_microseconds),
            ("read back", self.read_back_microseconds),
        ]
    }
}

/// One of the three rates.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Programs in a second on the wall.
    pub programs_per_second: f64,
    /// Calls in a second on the wall.
    pub calls_per_second: f64,
    /// Calls of a program.
    pub calls_per_program: f64,
    /// Processor time of a program, fuzzer and QEMU together, in microseconds.
    pub processor_microseconds: f64,
    /// The fuzzer's share of that.
    pub host_microseconds: f64,
}

/// What was measured of one target.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which.
    pub target: String,
    /// Calls of the programs that ceiling and engine were measured with.
    pub calls_per_program: f64,
    /// Inside the guest, without host and reset.
    pub ceiling: Rate,
    /// The bare engine.
    pub engine: Rate,
    /// The bare engine with a sample of the programs that the fuzzer executed: those that a corpus leads to do more than generated
    /// ones.
    pub same: Rate,
    /// The whole fuzzer.
    pub fuzzer: Rate,
    /// On the wall, the median of rounds.
    pub engine_to_ceiling: f64,
    /// On the wall, with the same programs.
    pub fuzzer_to_engine: f64,
    /// The same by processor time.
    pub engine_to_ceiling_by_processor: f64,
    /// The same by processor time.
    pub fuzzer_to_engine_by_processor: f64,
    /// Time of one program in the bare engine.
    pub engine_parts: Parts,
    /// Time of one program in the fuzzer.
    pub fuzzer_parts: Parts,
    /// What resets cost.
    pub reset: ResetCost,
    /// Memory of QEMU and of the fuzzer after a campaign's programs, in bytes, as far as the system tells.
    pub memory: [Option<u64>; 2],
    /// What a crash costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashCost>,
    /// The whole fuzzer with many workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Rate of the engine against that of the target beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_to_beside: Option<f64>,
    /// The target beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Box<Report>>,
    /// How the machine is reset in all of these.
    pub way: String,
    /// The bare engine with another way to reset the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside_reset: Option<OtherReset>,
    /// With `--oracles off`: what the bare engine does with oracles, turn by turn beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oracles: Option<OracleCost>,
}

/// The bare engine with another way to reset the machine.
#[derive(Clone, Debug, Serialize)]
pub struct OtherReset {
    /// Which.
    pub way: String,
    /// Its rate.
    pub engine: Rate,
    /// Rate of the engine above against this one.
    pub engine_to_this: f64,
}

/// Many workers against one.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scaling {
    /// How many.
    pub workers: usize,
    /// What they execute together.
    pub programs_per_second: f64,
    /// That, against as many times what one executes alone.
    pub to_one: f64,
}

/// What oracles cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OracleCost {
    /// With them.
    pub engine_programs_per_second: f64,
    /// Share of the executions that they cost.
    pub cost: f64,
}

impl Report {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("target {}, one core, reset before every program\n\n", self.target);
        // Writing to a string cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, to: &mut String) -> std::fmt::Result {
        writeln!(
            to,
            "                       programs/s    calls/s   calls/program   processor time   of the fuzzer"
        )?;
        for (name, rate) in self.rates() {
            writeln!(
                to,
                "{name:22} {:>10.0} {:>10.0} {:>15.1} {:>13.1} us {:>12.1} us",
                rate.programs_per_second,
                rate.calls_per_second,
                rate.calls_per_program,
                rate.processor_microseconds,
                rate.host_microseconds
            )?;
        }
        if let Some(oracles) = self.oracles {
            writeln!(to, "engine, oracles on     {:>10.0}", oracles.engine_programs_per_second)?;
        }
        if let Some(other) = &self.beside_reset {
            let name = format!("engine, {}", other.way);
            writeln!(to, "{name:22} {:>10.0}", other.engine.programs_per_second)?;
        }
        writeln!(to, "\n                          by time   by processor time")?;
        let ratio = |to: &mut String, name: &str, wall: f64, processor: f64| {
            writeln!(to, "{name:22} {wall:>10.2} {processor:>19.2}")
        };
        ratio(to, "engine / ceiling", self.engine_to_ceiling, self.engine_to_ceiling_by_processor)?;
        ratio(to, "fuzzer / engine", self.fuzzer_to_engine, self.fuzzer_to_engine_by_processor)?;
        if let Some(oracles) = self.oracles {
            writeln!(to, "cost of oracles        {:>9.0}%  (of programs/s)", oracles.cost * 100.0)?;
        }
        if let Some(other) = &self.beside_reset {
            let ratio = other.engine_to_this;
            writeln!(to, "engine / engine        {ratio:>10.1}  (reset {} against {})", self.way, other.way)?;
        }
        writeln!(to, "\none program, us on the wall   engine     fuzzer")?;
        for ((name, engine), (_, fuzzer)) in
            self.engine_parts.rows().into_iter().zip(self.fuzzer_parts.rows())
        {
            writeln!(to, "{name:26} {engine:>9.1} {fuzzer:>10.1}")?;
        }
        writeln!(
            to,
            "pages brought back         {:>9.1} {:>10.1}",
            self.engine_parts.pages, self.fuzzer_parts.pages
        )?;
        let ResetCost { fixed_microseconds, microseconds_per_page, points } = &self.reset;
        writeln!(to, "\nreset: {fixed_microseconds:.1} us + {microseconds_per_page:.3} us for each page")?;
        for point in points {
            writeln!(to, "{:>12} pages {:>10.1} us", point.pages, point.microseconds)?;
        }
        if let Some(crash) = self.crash {
            let CrashCost { crash_microseconds, good_microseconds } = crash;
            writeln!(
                to,
                "\na crash: {crash_microseconds:.1} us, {:.2} times the same program without the bug ({good_microseconds:.1} us)",
                crash.ratio()
            )?;
        }
        if let Some(Scaling { workers, programs_per_second, to_one }) = self.scaling {
            writeln!(
                to,
                "\n{workers} workers: {programs_per_second:.0} programs/s, {to_one:.2} of {workers} times one worker"
            )?;
        }
        if let [Some(qemu), Some(host)] = self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(to, "\nmemory of a worker: QEMU {:.0} MiB, fuzzer {:.0} MiB", mib(qemu), mib(host))?;
        }
        Ok(())
    }

    fn rates(&self) -> [(&'static str, Rate); 4] {
        [
            ("in-guest ceiling", self.ceiling),
            ("bare engine", self.engine),
            ("engine on fuzzer's", self.same),
            ("whole fuzzer", self.fuzzer),
        ]
    }

    /// One line for each number: target, what it is of, which one, value.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut lines = String::from("target,of,what,value\n");
        self.lines(&mut lines);
        lines
    }

    fn lines(&self, to: &mut String) {
        let mut line = |of: &str, what: &str, value: f64| {
            // Writing to a string cannot fail.
            let _ = writeln!(to, "{},{of},{what},{value}", self.target);
        };
        for (name, rate) in self.rates() {
            line(name, "programs per second", rate.programs_per_second);
            line(name, "calls per second", rate.calls_per_second);
            line(name, "calls per program", rate.calls_per_program);
            line(name, "processor microseconds", rate.processor_microseconds);
            line(name, "host microseconds", rate.host_microseconds);
        }
        line("bare engine", "to ceiling", self.engine_to_ceiling);
        line("bare engine", "to ceiling by processor time", self.engine_to_ceiling_by_processor);
        line("whole fuzzer", "to engine", self.fuzzer_to_engine);
        line("whole fuzzer", "to engine by processor time", self.fuzzer_to_engine_by_processor);
        for (of, parts) in [("bare engine", self.engine_parts), ("whole fuzzer", self.fuzzer_parts)] {
            for (part, microseconds) in parts.rows() {
                line(of, &format!("microseconds of {part}"), microseconds);
            }
            line(of, "pages", parts.pages);
        }
        line("reset", "fixed microseconds", self.reset.fixed_microseconds);
        line("reset", "microseconds per page", self.reset.microseconds_per_page);
        for point in &self.reset.points {
            line("reset", &format!("microseconds with {} pages", point.pages), point.microseconds);
        }
        for (whose, bytes) in ["qemu", "fuzzer"].into_iter().zip(self.memory) {
            if let Some(bytes) = bytes {
                line("memory", whose, bytes as f64);
            }
        }
        if let Some(crash) = self.crash {
            line("crash", "microseconds", crash.crash_microseconds);
            line("crash", "microseconds without the bug", crash.good_microseconds);
            line("crash", "to the same without the bug", crash.ratio());
        }
        if let Some(scaling) = self.scaling {
            let of = format!("{} workers", scaling.workers);
            line(&of, "programs per second", scaling.programs_per_second);
            line(&of, "to one worker each", scaling.to_one);
        }
        if let Some(other) = &self.beside_reset {
            line(
                &format!("engine with {}", other.way),
                "programs per second",
                other.engine.programs_per_second,
            );
            line("bare engine", &format!("to engine with {}", other.way), other.engine_to_this);
        }
        if let Some(oracles) = self.oracles {
            line("oracles", "programs per second with them", oracles.engine_programs_per_second);
            line("oracles", "cost", oracles.cost);
        }
        if let Some(beside) = &self.beside {
            beside.lines(to);
        }
    }
}
