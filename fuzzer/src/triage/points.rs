//! The table of instrumented places: LLVM's SanitizerCoverage puts the address of each counter's block, and whether it is
//! the entry of a function, into the section `__sancov_pcs` (two words each; clang documentation, "SanitizerCoverage",
//! "PC-Table"). The linker script gives it its bounds.

use std::ops::Range;

use anyhow::{Context, ensure};
use object::{Object, ObjectSection, ObjectSymbol};

/// Bytes of an entry: address and flags.
const ENTRY: usize = 16;
/// Flag of a place that is the entry of a function.
const ENTRY_OF_FUNCTION: u64 = 1;

/// A place that has a counter. Its position in the table is the number of its edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Address of the first instruction.
    pub address: u64,
    /// First address that belongs to another place, or to another function.
    pub end: u64,
    /// It is where a function begins.
    pub entry: bool,
}

/// Reads the table of an ELF image.
///
/// # Errors
/// When the image has none, or one that makes no sense.
pub fn read(elf: &[u8]) -> anyhow::Result<Vec<Point>> {
    let file = object::File::parse(elf).context("cannot read the hypervisor's image")?;
    let bounds = between(&file, "sancov_pcs")?;
    let len = bounds.end - bounds.start;
    ensure!(len.is_multiple_of(ENTRY as u64), "the table of instrumented places is damaged");
    let table = file
        .sections()
        .find_map(|section| section.data_range(bounds.start, len).ok().flatten())
        .context("the table of instrumented places lies outside the image")?;
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
    let mut points: Vec<Point> = table
        .chunks_exact(ENTRY)
        .map(|entry| Point {
            address: word(&entry[..8]),
            end: 0,
            entry: word(&entry[8..]) & ENTRY_OF_FUNCTION != 0,
        })
        .collect();
    close(&mut points, &ends_of_functions(&file));
    Ok(points)
}

/// The addresses between which the linker has put everything of a section of SanitizerCoverage.
///
/// # Errors
/// When the image does not say so.
pub(crate) fn between<'data>(file: &impl Object<'data>, section: &str) -> anyhow::Result<Range<u64>> {
    let bound = |which: &str| {
        let name = format!("__{which}___{section}");
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(&name));
        symbol.map(|symbol| symbol.address()).with_context(|| format!("the image has no symbol {name}"))
    };
    let (start, stop) = (bound("start")?, bound("stop")?);
    ensure!(start <= stop, "the section {section} of the image ends before it begins");
    Ok(start..stop)
}

/// Ends of all functions, in ascending order.
fn ends_of_functions(file: &object::File<'_>) -> Vec<u64> {
    let functions = file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text);
    let mut ends: Vec<u64> =
        functions.filter(|symbol| symbol.size() > 0).map(|symbol| symbol.address() + symbol.size()).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// A place reaches to the next one, or to the end of its function.
fn close(points: &mut [Point], ends: &[u64]) {
    let mut addresses: Vec<u64> = points.iter().map(|point| point.address).collect();
    addresses.sort_unstable();
    let above = |sorted: &[u64], address: u64| sorted.get(sorted.partition_point(|x| *x <= address)).copied();
    for point in points {
        let next = above(&addresses, point.address);
        let end = above(ends, point.address);
        point.end = next.into_iter().chain(end).min().unwrap_or(point.address + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    #[test]
    fn the_image_has_a_place_for_each_counter() {
        let points = read(images::HYPERVISOR).expect("the image has a table");
        assert!(points.len() > 1000, "{}", points.len());
        assert!(points.iter().filter(|point| point.entry).count() > 100);
        assert!(points.iter().all(|point| point.address < point.end), "no place is empty");
    }

    #[test]
    fn a_place_ends_where_the_next_one_or_its_function_does() {
        let at = |address| Point { address, end: 0, entry: false };
        let mut points = [at(0x30), at(0x10), at(0x20)];
        close(&mut points, &[0x28, 0x40]);
        assert_eq!(points.map(|point| point.end), [0x40, 0x20, 0x28]);
    }

    #[test]
    fn garbage_is_no_image() {
        assert!(read(b"nothing").is_err());
    }
}
