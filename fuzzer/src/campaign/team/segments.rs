//! Shared memory that nobody forgets: System V segments outlive processes that are killed, unless they are marked for removal
//! while they are in use.
//!
//! LLMP's processes attach to each other's segments by number. Linux allows that for marked segments as well (shmctl(2)), so
//! all of a campaign's segments are marked soon after they were made, and go with the last process that uses them.
#![expect(unsafe_code, reason = "System V shared memory has no safe interface")]

use std::fs;

/// Marks all segments that these processes have made.
pub(super) fn mark_for_removal(processes: &[u32]) {
    // Without the list nothing can be marked: the segments then go with processes that end well, as LLMP has it.
    let Ok(list) = fs::read_to_string("/proc/sysvipc/shm") else { return };
    for id in made_by(&list, processes) {
        // SAFETY: removing a segment takes no memory of ours: it stays mapped where it is, and the third argument is not
        // used by this command.
        let _ = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Numbers of the segments in the kernel's list that were made by these processes and are not marked yet.
fn made_by<'a>(list: &'a str, processes: &'a [u32]) -> impl Iterator<Item = i32> + 'a {
    /// `SHM_DEST` of shmctl(2): marked for removal.
    const MARKED: u32 = 0o1000;
    list.lines().skip(1).filter_map(move |line| {
        // proc(5): key shmid perms size cpid lpid nattch …
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (id, permissions) = (fields.get(1)?.parse().ok()?, u32::from_str_radix(fields.get(2)?, 8).ok()?);
        let maker = fields.get(4)?.parse().ok()?;
        (processes.contains(&maker) && permissions & MARKED == 0).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_segments_are_found() {
        let list = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                    0         65     600             268435456   100   101      2     0\n\
                    0         66    1600             268435456   100   101      2     0\n\
                    0         67     600             268435456   200   201      1     0\n\
                    nonsense\n";
        assert_eq!(made_by(list, &[100, 300]).collect::<Vec<_>>(), [65]);
        assert_eq!(made_by("", &[100]).count(), 0);
    }
}
