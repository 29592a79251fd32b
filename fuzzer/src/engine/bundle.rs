//! The bundle: what the hypervisor gets as its boot module.
//!
//! It is a `cpio` archive in the `newc` format (`cpio(5)`), because that is easy to read without an allocator
//! and easy to look into with common tools.

/// Name of the domain configuration in the bundle.
pub const DOMAINS: &str = "domains.conf";
/// Name of the agent's image in the bundle.
pub const AGENT: &str = "agent.elf";
/// `S_IFREG | 0644`.
const MODE: u32 = 0o100_644;

/// Appends zeros up to a multiple of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Appends one file.
fn entry(archive: &mut Vec<u8>, inode: usize, name: &str, content: &[u8]) {
    let mode = if name == TRAILER { 0 } else { MODE };
    // Magic, inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name with NUL, checksum.
    let head = format!(
        "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{2:08X}{0:08X}{0:08X}{0:08X}{0:08X}{3:08X}{0:08X}",
        0,
        1,
        content.len(),
        name.len() + 1
    );
    archive.extend_from_slice(head.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Builds the bundle of a domain configuration and an agent image.
#[must_use]
pub fn build(domains: &str, agent: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(domains.len() + agent.len() + 512);
    entry(&mut archive, 1, DOMAINS, domains.as_bytes());
    entry(&mut archive, 2, AGENT, agent);
    entry(&mut archive, 0, TRAILER, &[]);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a `newc` archive as its manual page describes it.
    fn parse(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            let field = |n: usize| {
                let text = str::from_utf8(&archive[6 + n * 8..14 + n * 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&archive[..6], b"070701");
            let (size, name_len) = (field(6), field(11));
            let name = str::from_utf8(&archive[110..110 + name_len - 1]).unwrap().to_owned();
            assert_eq!(archive[110 + name_len - 1], 0);
            let start = (at + 110 + name_len).next_multiple_of(4) - at;
            if name == TRAILER {
                return found;
            }
            found.push((name, archive[start..start + size].to_vec()));
            let next = (at + start + size).next_multiple_of(4) - at;
            archive = &archive[next..];
            at += next;
        }
    }

    #[test]
    fn holds_both_files_whatever_their_length() {
        for len in 0..9u8 {
            let agent: Vec<u8> = (0..len).collect();
            let domains = "x".repeat(usize::from(len) * 3);
            let files = parse(&build(&domains, &agent));
            assert_eq!(files, [(DOMAINS.into(), domains.into_bytes()), (AGENT.into(), agent)]);
        }
    }
}
