//! The functions of an image: where they are, what they are called, and their code.

use anyhow::Context;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::symbols::demangle;

/// A function as the image has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Address of its first instruction.
    pub start: u64,
    /// Demangled name, without the compiler's hash.
    pub name: String,
    /// Its instructions.
    pub code: Vec<u8>,
}

impl Function {
    /// True for addresses inside.
    pub fn contains(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.code.len() as u64)
    }
}

/// Reads the functions of an ELF image, in ascending order of their addresses. Of several at one address the first one of the symbol
/// table stands for all.
///
/// # Errors
/// When the image cannot be read.
pub fn read(elf: &[u8]) -> anyhow::Result<Vec<Function>> {
    let file = object::File::parse(elf).context("cannot read the hypervisor's image")?;
    let mut functions: Vec<Function> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| {
            let section = file.section_by_index(symbol.section_index()?).ok()?;
            let code = section.data_range(symbol.address(), symbol.size()).ok()??.to_vec();
            let name = symbol.name().map_or_else(|_| "?".into(), demangle);
            Some(Function { start: symbol.address(), name, code })
        })
        .collect();
    functions.sort_by_key(|function| function.start);
    functions.dedup_by_key(|function| function.start);
    Ok(functions)
}

/// The function that an address lies in, if there is one. They are in ascending order.
pub fn find(functions: &[Function], address: u64) -> Option<&Function> {
    let behind = functions.partition_point(|function| function.start <= address);
    functions[..behind].last().filter(|function| function.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_functions_with_names_and_code() {
        let functions = read(crate::images::HYPERVISOR).expect("it is an ELF file");
        assert!(functions.len() > 500, "{}", functions.len());
        assert!(functions.is_sorted_by(|a, b| a.start < b.start));
        let wild = functions.iter().find(|f| f.name.ends_with("wild::wild_read")).expect("it is not inlined");
        assert_eq!(find(&functions, wild.start + 1), Some(wild));
        assert!(read(b"nothing").is_err());
    }

    #[test]
    fn addresses_between_functions_belong_to_none() {
        let function = |start, len| Function { start, name: String::new(), code: vec![0x90; len] };
        let functions = [function(0x1000, 4), function(0x1010, 1)];
        let start_of = |address| find(&functions, address).map(|function| function.start);
        assert_eq!(
            [0xfff, 0x1003, 0x1004, 0x1010, 0x1011].map(start_of),
            [None, Some(0x1000), None, Some(0x1010), None]
        );
    }
}
