//! Which code was executed, from the counters that were hit.
//!
//! LLVM gives no counter to a block that is known to be executed whenever others are: one that dominates all its
//! successors, or that follows upon each of its predecessors (`shouldInstrumentBlock` in its `SanitizerCoverage`). The
//! same graph stands in the machine code, so what was left out can be concluded again: whatever dominates or
//! postdominates a block that was executed was executed too.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::{
    algo::dominators::{self, Dominators},
    graph::{DiGraph, NodeIndex},
    visit::Reversed,
};

use super::code::{Function, Next};
use crate::triage::points::Point;

/// Code that is executed from its first to its last instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Address of the first instruction.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
}

/// Blocks of an image and what their execution implies.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// All blocks, function by function.
    pub blocks: Vec<Block>,
    /// Edge whose counter stands at the beginning of a block.
    counters: Vec<Option<u32>>,
    /// For each block, those that were certainly executed if it was: its nearest dominator and postdominator.
    implied: Vec<[Option<usize>; 2]>,
}

impl Flow {
    /// Finds the blocks of functions in which the places lie.
    pub(super) fn new(functions: &[Function], points: &[Point]) -> Self {
        let edges: BTreeMap<u64, u32> =
            points.iter().zip(0..).map(|(point, edge)| (point.address, edge)).collect();
        let mut flow = Self::default();
        for function in functions {
            if edges.range(function.start..function.end).next().is_some() {
                flow.add(function, &edges);
            }
        }
        flow
    }

    fn add(&mut self, function: &Function, edges: &BTreeMap<u64, u32>) {
        let first = self.blocks.len();
        let graph = Graph::of(function, edges);
        let implied = graph.implied();
        self.implied.extend(implied.iter().map(|[a, b]| [a.map(|n| first + n), b.map(|n| first + n)]));
        self.counters.extend(graph.blocks.iter().map(|block| edges.get(&block.start).copied()));
        self.blocks.extend(graph.blocks);
    }

    /// For each block, whether it was executed, given the edges that were seen.
    pub(super) fn executed(&self, seen: &[bool]) -> Vec<bool> {
        let hit = |edge: &Option<u32>| edge.is_some_and(|edge| seen.get(edge as usize) == Some(&true));
        let mut executed = vec![false; self.blocks.len()];
        let mut open: Vec<usize> = (0..self.blocks.len()).filter(|n| hit(&self.counters[*n])).collect();
        while let Some(block) = open.pop() {
            if !core::mem::replace(&mut executed[block], true) {
                open.extend(self.implied[block].into_iter().flatten());
            }
        }
        executed
    }
}

/// The blocks of one function.
struct Graph {
    blocks: Vec<Block>,
    /// One node for each block in their order, then one from which the function is entered, then one for all its ends.
    graph: DiGraph<(), ()>,
    entry: NodeIndex,
    exit: NodeIndex,
}

impl Graph {
    fn of(function: &Function, edges: &BTreeMap<u64, u32>) -> Self {
        let blocks = blocks(function, edges);
        let mut graph = DiGraph::new();
        let nodes: Vec<NodeIndex> = blocks.iter().map(|_| graph.add_node(())).collect();
        let (entry, exit) = (graph.add_node(()), graph.add_node(()));
        let at: BTreeMap<u64, NodeIndex> =
            blocks.iter().zip(&nodes).map(|(block, node)| (block.start, *node)).collect();
        let place = |address: u64| at.get(&address).copied().unwrap_or(exit);
        let mut computed = Vec::new();
        for (block, from) in blocks.iter().zip(&nodes) {
            let last = function.instructions.range(block.start..block.end).next_back();
            match last.map_or(Next::Nothing, |(_, (_, next))| *next) {
                Next::Following | Next::Call(_) => {
                    graph.add_edge(*from, place(block.end), ());
                }
                Next::Branch(to) => {
                    graph.add_edge(*from, place(to), ());
                    graph.add_edge(*from, place(block.end), ());
                }
                Next::Jump(to) => {
                    graph.add_edge(*from, place(to), ());
                }
                Next::Computed => computed.push(*from),
                // An exception is an end as well: what would have followed was not executed.
                Next::Return | Next::Nothing => {
                    graph.add_edge(*from, exit, ());
                }
            }
        }
        graph.add_edge(entry, place(function.start), ());
        // What nothing is known to lead to is reached through tables, if there are any, or in a way that is not known.
        let orphans: Vec<NodeIndex> = nodes
            .iter()
            .copied()
            .filter(|node| graph.edges_directed(*node, petgraph::Incoming).next().is_none())
            .collect();
        for from in &computed {
            for to in orphans.iter().chain([&exit]) {
                graph.add_edge(*from, *to, ());
            }
        }
        if computed.is_empty() {
            for to in orphans {
                graph.add_edge(entry, to, ());
            }
        }
        Self { blocks, graph, entry, exit }
    }

    /// For each block its nearest dominator and its nearest postdominator.
    fn implied(&self) -> Vec<[Option<usize>; 2]> {
        let before = dominators::simple_fast(&self.graph, self.entry);
        let after = dominators::simple_fast(Reversed(&self.graph), self.exit);
        let nearest = |of: &Dominators<NodeIndex>, n: usize| {
            let found = of.immediate_dominator(NodeIndex::new(n))?.index();
            (found < self.blocks.len()).then_some(found)
        };
        (0..self.blocks.len()).map(|n| [nearest(&before, n), nearest(&after, n)]).collect()
    }
}

/// Cuts a function at the targets of jumps, behind them, and at counters.
fn blocks(function: &Function, edges: &BTreeMap<u64, u32>) -> Vec<Block> {
    let mut starts: BTreeSet<u64> = edges.range(function.start..function.end).map(|(at, _)| *at).collect();
    starts.insert(function.start);
    for (behind, next) in function.instructions.values() {
        if let Next::Branch(to) | Next::Jump(to) = next {
            starts.insert(*to);
        }
        if !matches!(next, Next::Following | Next::Call(_)) {
            starts.insert(*behind);
        }
    }
    // An address in the middle of an instruction begins nothing.
    starts.retain(|at| function.instructions.contains_key(at));
    let ends = starts.iter().skip(1).copied().chain([function.end]);
    starts.iter().zip(ends).map(|(start, end)| Block { start: *start, end }).collect()
}

#[cfg(test)]
impl Flow {
    /// Blocks of which each has the counter of its number, and implies nothing.
    pub(super) fn of_counters(count: u32) -> Self {
        let blocks = (0..count.into()).map(|start| Block { start, end: start + 1 }).collect();
        let counters = (0..count).map(Some).collect();
        Self { blocks, counters, implied: vec![[None; 2]; count as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places at addresses, whose edges are their positions.
    fn flow(code: &[u8], points: &[u64]) -> Flow {
        let points: Vec<Point> =
            points.iter().map(|at| Point { address: *at, end: at + 1, entry: false }).collect();
        Flow::new(&[Function::decode(code, 0)], &points)
    }

    /// Addresses of the blocks that were executed.
    fn executed(flow: &Flow, seen: &[bool]) -> Vec<u64> {
        let executed = flow.executed(seen);
        flow.blocks.iter().zip(executed).filter_map(|(block, yes)| yes.then_some(block.start)).collect()
    }

    /// 0: jz 5; 2: nop; 3: jmp 6; 5: nop; 6: ret.
    const DIAMOND: [u8; 7] = [0x74, 0x03, 0x90, 0xeb, 0x01, 0x90, 0xc3];

    #[test]
    fn what_encloses_a_branch_was_executed_with_it() {
        let flow = flow(&DIAMOND, &[2, 5]);
        assert_eq!(executed(&flow, &[true, false]), [0, 2, 6]);
        assert_eq!(executed(&flow, &[false, true]), [0, 5, 6]);
        assert_eq!(executed(&flow, &[false, false]), [0; 0]);
    }

    #[test]
    fn nothing_is_concluded_for_one_branch_from_the_other() {
        let flow = flow(&DIAMOND, &[0, 2]);
        assert_eq!(executed(&flow, &[true, false]), [0, 6]);
    }

    #[test]
    fn a_path_that_ends_in_an_exception_says_nothing_of_what_follows() {
        // 0: jz 4; 2: ud2; 4: ret.
        let flow = flow(&[0x74, 0x02, 0x0f, 0x0b, 0xc3], &[0, 2]);
        assert_eq!(executed(&flow, &[false, true]), [0, 2], "it never came to the return");
        assert_eq!(executed(&flow, &[true, false]), [0], "one of two ends, and not known which");
    }

    #[test]
    fn tables_of_addresses_lead_to_what_nothing_else_leads_to() {
        // 0: jmp rax; 2: nop; 3: ret; 4: nop; 5: ret.
        let flow = flow(&[0xff, 0xe0, 0x90, 0xc3, 0x90, 0xc3], &[2, 4]);
        assert_eq!(executed(&flow, &[false, true]), [0, 4]);
    }

    #[test]
    fn loops_are_entered_before_they_are_repeated() {
        // 0: nop; 1: nop; 2: jz 1; 4: ret.
        let flow = flow(&[0x90, 0x90, 0x74, 0xfd, 0xc3], &[1]);
        assert_eq!(executed(&flow, &[true]), [0, 1, 4]);
    }
}
