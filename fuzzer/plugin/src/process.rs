// SPDX-License-Identifier: GPL-2.0-or-later
//! What the kernel says of the process that the plugin is in: proc(5).

use std::fs;

use rustix::thread::{Pid, gettid};

/// The fields of a `stat` line from the third on: those before it may have spaces in them.
fn fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

/// Processor time that a thread has used, in ticks of the kernel's: fields 14 and 15.
pub(crate) fn time(thread: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    fields(&stat)?.skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum()
}

/// True where no thread but this one runs, or could run if it had a processor: field 3.
pub(crate) fn sleeps() -> bool {
    let own = gettid().to_string();
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return false };
    threads.flatten().filter(|thread| thread.file_name() != *own).all(|thread| {
        // A thread that has just ended does not run.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        fields(&stat).and_then(|mut fields| fields.next()).is_none_or(|state| state == "S")
    })
}

/// Where a file is mapped from its beginning, and how many bytes of it.
pub(crate) fn mapping(inode: u64) -> Option<(usize, usize)> {
    find_mapping(&fs::read_to_string("/proc/self/maps").ok()?, inode)
}

/// The same, in the text of `maps`. Neighbouring mappings of the file are one.
fn find_mapping(maps: &str, inode: u64) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(_), Some(offset), Some(_), Some(number)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        if number.parse() != Ok(inode) {
            continue;
        }
        let (start, end) = range.split_once('-')?;
        let [start, end, offset] = [start, end, offset].map(|number| usize::from_str_radix(number, 16).ok());
        let (start, end, offset) = (start?, end?, offset?);
        match &mut found {
            None if offset == 0 => found = Some((start, end - start)),
            Some((base, len)) if *base + *len == start && offset == *len => *len += end - start,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_file_in_pieces() {
        let maps = "\
7f0000000000-7f0000001000 r--p 00000000 00:1b 77 /lib/a file (deleted)
7f1000000000-7f1000100000 rw-s 00000000 00:1b 1234 /dev/shm/x/ram
7f1000100000-7f1000200000 rw-s 00100000 00:1b 1234 /dev/shm/x/ram
7f2000000000-7f2000100000 rw-s 00000000 00:1b 1234 /dev/shm/x/ram
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
";
        assert_eq!(find_mapping(maps, 1234), Some((0x7f10_0000_0000, 0x20_0000)));
        assert_eq!(find_mapping(maps, 1235), None);
    }

    #[test]
    fn knows_its_own_threads() {
        assert!(time(gettid()).is_some());
        let spinner = std::sync::Arc::new(());
        let other = std::sync::Arc::downgrade(&spinner);
        let thread = std::thread::spawn(move || while other.strong_count() > 0 {});
        assert!(!sleeps());
        drop(spinner);
        thread.join().unwrap();
    }
}
