//! Programs that once showed a defect, run again on another build.
//!
//! What a program needs, and what is known of it, stands in comments of its file: `# plant:` planted bugs, `# target:` the target, if it is not
//! the usual one, and `# known:` buckets that nobody wants to hear of again. Other comments are for people.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{
    examine::{REGRESSION, REPORT},
    findings::{self, Stored, program_in},
    store::{self, program_files},
};
use crate::{
    engine::{Engine, Execution},
    program::Program,
    report::finding,
    target::Target,
    triage::{
        bucket::{Bucket, Classifier},
        verify,
    },
};

/// What a program file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Planted bugs that have to be switched on.
    pub plants: Vec<String>,
    /// The target, if it matters.
    pub target: Option<Target>,
    /// Buckets that are known.
    pub known: Vec<Bucket>,
}

impl Header {
    /// Reads the comments of a program in text form.
    ///
    /// # Errors
    /// A target that does not exist, or a bucket whose name is none.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut header = Self::default();
        for line in text.lines() {
            let comment = line.trim_start().strip_prefix('#').map(str::trim);
            let Some((key, value)) = comment.and_then(|comment| comment.split_once(':')) else { continue };
            let mut words =
                value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
            match key {
                "plant" => header.plants.extend(words.map(str::to_owned)),
                "target" => header.target = words.next().map(findings::target).transpose()?,
                "known" => {
                    for word in words {
                        let bucket = Bucket::from_name(word);
                        header
                            .known
                            .push(bucket.with_context(|| format!("# known: {word} is no name of a bucket"))?);
                    }
                }
                _ => {}
            }
        }
        Ok(header)
    }
}

/// A program to be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file.
    pub name: String,
    /// The program itself.
    pub program: Program,
    /// What its file says of it.
    pub header: Header,
}

impl Case {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let program = store::load_program(path)?;
        let name = path.display().to_string();
        // A program in wire form has no comments.
        let text = fs::read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let header = Header::parse(&text).with_context(|| name.clone())?;
        Ok(Self { name, program, header })
    }

    /// The program of a finding. One that was stored before there were files for this has the same said in its report.
    fn of_finding(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(REGRESSION);
        if path.is_file() {
            return Self::load(&path);
        }
        let path = program_in(directory)?;
        let mut case = Self::load(&path)?;
        if let Some(stored) = Stored::beside(&path)? {
            let target = stored.target().with_context(|| case.name.clone())?;
            case.header.target.get_or_insert(target);
            case.header.plants.extend(stored.plants);
        }
        Ok(case)
    }
}

/// Directories below this one that hold complete findings, in the order of their names.
fn complete(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.with_context(|| format!("cannot list {}", directory.display()))?;
    paths.retain(|path| path.join(REPORT).is_file());
    paths.sort();
    Ok(paths)
}

/// The programs that a path stands for: those of a campaign's findings, that of a finding, those of a directory, or a file.
///
/// # Errors
/// The first file that cannot be read or understood, or that there is nothing.
pub fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    if !path.is_dir() {
        return Ok(vec![Case::load(path)?]);
    }
    let below = path.join("findings");
    if below.is_dir() {
        return complete(&below)?.iter().map(|directory| Case::of_finding(directory)).collect();
    }
    if path.join(REPORT).is_file() {
        return Ok(vec![Case::of_finding(path)?]);
    }
    let files = program_files(path)?;
    let findings = complete(path)?;
    if files.is_empty() && findings.is_empty() {
        bail!("{}: no program there (files *.hf or *.hfw), and it is no campaign", path.display());
    }
    let files = files.iter().map(|file| Case::load(file));
    files.chain(findings.iter().map(|directory| Case::of_finding(directory))).collect()
}

/// What came of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hypervisor behaved.
    Passed,
    /// It did not, and that was known.
    Known(Bucket),
    /// It did not.
    Failed(Bucket),
}

impl Verdict {
    /// Judges how a program with this header ended.
    fn of(bucket: Option<Bucket>, header: &Header) -> Self {
        match bucket {
            None => Self::Passed,
            Some(bucket) if header.known.contains(&bucket) => Self::Known(bucket),
            Some(bucket) => Self::Failed(bucket),
        }
    }

    /// Where it belongs, if the hypervisor misbehaved.
    pub fn bucket(&self) -> Option<&Bucket> {
        match self {
            Self::Passed => None,
            Self::Known(bucket) | Self::Failed(bucket) => Some(bucket),
        }
    }
}

fn once(
    engine: &mut impl Engine,
    classifier: &Classifier,
    case: &Case,
    execution: &mut Execution,
) -> anyhow::Result<Option<Bucket>> {
    if !verify::run_once(engine, &case.program, execution)? {
        bail!("{}: the program is too long for the agent", case.name);
    }
    Ok(classifier.classify(&case.program, execution))
}

/// Runs a program on a reset machine, and where that ends badly once more on one that was booted for it, which decides. Says in one
/// line what happened.
///
/// # Errors
/// When no machine can be had, or the program is too long for the agent.
pub fn run(
    engine: &mut impl Engine,
    classifier: &Classifier,
    case: &Case,
) -> anyhow::Result<(Verdict, String)> {
    let mut execution = Execution::default();
    let mut bucket = once(engine, classifier, case, &mut execution)?;
    if bucket.is_some() {
        engine.reboot()?;
        bucket = once(engine, classifier, case, &mut execution)?;
    }
    Ok((Verdict::of(bucket, &case.header), finding::summary(&case.program, &execution)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str) -> Bucket {
        Bucket::from_name(name).expect("it has the form of one")
    }

    #[test]
    fn comments_say_what_a_program_needs_and_what_is_known() {
        let text = "# what: d1: plants nothing\n#plant: count-sign, poll-hang\n  # known: fault-a-1 hang-b-2\n\
                    d1 sched_op.yield() # plant: none of these\n# target: reference-pv\n";
        let header = Header::parse(text).unwrap();
        assert_eq!(header.plants, ["count-sign", "poll-hang"]);
        assert_eq!(header.target, Some(Target::ReferencePv));
        assert_eq!(header.known, [bucket("fault-a-1"), bucket("hang-b-2")]);
        assert_eq!(Header::parse("d1 sched_op.yield()\n").unwrap(), Header::default());
        for (bad, word) in [("# known: ../etc", "../etc"), ("# target: vax", "vax")] {
            let error = Header::parse(bad).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn only_what_is_known_is_forgiven() {
        let header = Header { known: vec![bucket("fault-a-1")], ..Header::default() };
        assert_eq!(Verdict::of(None, &header), Verdict::Passed);
        assert_eq!(Verdict::of(Some(bucket("fault-a-1")), &header), Verdict::Known(bucket("fault-a-1")));
        assert_eq!(Verdict::of(Some(bucket("fault-b-1")), &header), Verdict::Failed(bucket("fault-b-1")));
    }

    #[test]
    fn a_path_stands_for_programs_and_complete_findings() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let names = |path: &str| {
            let found = cases(&dir.path().join(path)).unwrap();
            let name = |case: Case| case.name.strip_prefix(dir.path().to_str().unwrap()).unwrap().to_owned();
            found.into_iter().map(name).collect::<Vec<_>>()
        };
        put("c/findings/fault-a-1/regression.hf", "# plant: count-sign\nd1 sched_op.yield()\n");
        put("c/findings/fault-a-1/report.txt", "");
        put("c/findings/fault-b-2/program.hf", "d1 sched_op.yield()\n");
        put(
            "c/findings/fault-b-2/finding.json",
            r#"{"bucket": "fault-b-2", "summary": "", "calls": 1, "plants": ["poll-hang"], "target": "reference-pv", "build": "00",
                "reproduction": {"reproduced": 10, "runs": 10, "on_clean_boot": true}}"#,
        );
        put("c/findings/fault-b-2/report.txt", "");
        put("c/findings/fault-c-3/original.hf", "it was never confirmed");
        put("p/b.hf", "d1 sched_op.yield()\n");
        put("p/a.hf", "d1 sched_op.yield()\n");
        put("p/README", "no program");
        let all = ["/c/findings/fault-a-1/regression.hf", "/c/findings/fault-b-2/program.hf"];
        assert_eq!(names("c"), all);
        assert_eq!(names("c/findings"), all);
        assert_eq!(names("c/findings/fault-a-1"), all[..1]);
        assert_eq!(names("p"), ["/p/a.hf", "/p/b.hf"]);
        assert_eq!(names("p/a.hf"), ["/p/a.hf"]);
        let [first, second] = cases(&dir.path().join("c")).unwrap().try_into().unwrap();
        assert_eq!(first.header.plants, ["count-sign"]);
        assert_eq!(
            (second.header.plants, second.header.target),
            (vec!["poll-hang".into()], Some(Target::ReferencePv))
        );
        put("empty/README", "");
        assert!(cases(&dir.path().join("empty")).unwrap_err().to_string().contains("no program there"));
    }
}
