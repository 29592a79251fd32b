//! Where things lie in an image: the code that each edge counter belongs to, and the data behind physical addresses.

use object::{
    Endianness, Object, ObjectSymbol, SymbolKind,
    elf::PT_LOAD,
    read::elf::{ElfFile64, ProgramHeader},
};

use super::{
    points::{self, Point},
    symbols::demangle,
};

/// A variable of the image.
#[derive(Clone, Debug)]
struct Variable {
    address: u64,
    end: u64,
    name: String,
}

/// Addresses of an image, in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Code of each counter.
    counters: Vec<Point>,
    variables: Vec<Variable>,
    /// Loaded parts: physical address, virtual address, bytes.
    parts: Vec<(u64, u64, u64)>,
}

impl Layout {
    /// Reads an ELF image. What it does not have stays empty.
    pub(super) fn from_elf(elf: &[u8]) -> Self {
        let Ok(file) = ElfFile64::<Endianness>::parse(elf) else { return Self::default() };
        let mut variables: Vec<Variable> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Data && symbol.size() > 0)
            .map(|symbol| Variable {
                address: symbol.address(),
                end: symbol.address().saturating_add(symbol.size()),
                name: symbol.name().map_or_else(|_| "?".into(), demangle),
            })
            .collect();
        variables.sort_by_key(|variable| variable.address);
        let endian = file.endian();
        let loaded = file.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let parts = loaded.map(|h| (h.p_paddr(endian), h.p_vaddr(endian), h.p_memsz(endian))).collect();
        Self { counters: points::read(elf).unwrap_or_default(), variables, parts }
    }

    /// Code of a counter.
    pub(super) fn counter(&self, edge: usize) -> Option<u64> {
        self.counters.get(edge).map(|point| point.address)
    }

    /// What the image has at a physical address: a variable and the offset in it, or that it is the image at all.
    pub(super) fn data_at(&self, physical: u64) -> Option<String> {
        let (start, address, _) = self
            .parts
            .iter()
            .find(|(start, _, len)| physical.checked_sub(*start).is_some_and(|offset| offset < *len))?;
        let address = address + (physical - start);
        let behind = self.variables.partition_point(|variable| variable.address <= address);
        let variable = self.variables[..behind].last().filter(|variable| address < variable.end);
        Some(match variable {
            Some(variable) => format!("{}+{:#x}", variable.name, address - variable.address),
            None => format!("the hypervisor's image, {address:016x}"),
        })
    }
}
