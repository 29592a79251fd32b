// SPDX-License-Identifier: GPL-2.0-or-later
//! Saves and restores device state through QEMU's own stream.
//!
//! The stream is a list of sections. Most devices cannot be reached by a guest on a bare machine, and loading the CPU's
//! sections throws all translated code away, so only the sections named in [`KEPT`] are kept.
#![expect(unsafe_code, reason = "calls QEMU's migration functions")]

use core::ptr;

use crate::qemu::Qemu;

/// Sections that are restored: what a hypervisor can program on a machine without added devices.
const KEPT: [&str; 9] =
    ["timer", "apic", "ioapic", "i8259", "i8254", "hpet", "mc146818rtc", "serial", "pcspk"];

/// `QEMU_VM_SECTION_FULL` in QEMU's `migration/savevm.h`.
const SECTION_FULL: u8 = 4;
/// `QEMU_VM_SECTION_FOOTER`.
const SECTION_FOOTER: u8 = 0x7e;
/// `QEMU_VM_EOF`.
const END_OF_STREAM: u8 = 0;
/// `QEMU_VM_FILE_MAGIC`, big-endian in the stream; a four-byte version follows.
const FILE_MAGIC: [u8; 4] = *b"QEVM";
/// Bytes that a full stream may have; a bare machine needs about 50 KiB.
const MAX_STREAM: usize = 4 << 20;
/// `SEEK_SET`.
const SEEK_SET: i32 = 0;

/// A filtered device stream.
pub(crate) struct Devices {
    stream: Vec<u8>,
}

/// A section of a stream.
struct Section<'a> {
    name: &'a [u8],
    bytes: &'a [u8],
}

/// Parses the head of a section: its number and name.
fn section_head(bytes: &[u8]) -> Option<([u8; 4], &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk::<4>()?;
    let (&len, rest) = rest.split_first()?;
    let name = rest.get(..usize::from(len))?;
    let plausible = kind == SECTION_FULL && !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    plausible.then_some((*id, name))
}

/// Splits a stream into sections. Sections do not say how long they are: one ends at its footer, if a section or the
/// end of the stream follows.
fn sections(mut bytes: &[u8]) -> Option<Vec<Section<'_>>> {
    if bytes.starts_with(&FILE_MAGIC) {
        bytes = bytes.get(8..)?;
    }
    let mut found = Vec::new();
    while bytes.first() != Some(&END_OF_STREAM) {
        let (id, name) = section_head(bytes)?;
        let footer = [SECTION_FOOTER, id[0], id[1], id[2], id[3]];
        let end = (footer.len()..bytes.len()).find(|&end| {
            bytes[..end].ends_with(&footer)
                && (section_head(&bytes[end..]).is_some()
                    || (bytes[end] == END_OF_STREAM && end + 1 == bytes.len()))
        })?;
        found.push(Section { name, bytes: &bytes[..end] });
        bytes = &bytes[end..];
    }
    Some(found)
}

/// True for the sections that are kept: their names may be preceded by a device path and followed by nothing.
fn is_kept(name: &[u8]) -> bool {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    KEPT.iter().any(|kept| kept.as_bytes() == last)
}

impl Devices {
    /// Saves all devices. The big lock must be held.
    ///
    /// # Errors
    /// If QEMU cannot save, or the stream has an unknown form.
    pub(crate) fn save(qemu: &Qemu) -> Result<Self, String> {
        let mut stream = vec![0; MAX_STREAM];
        // SAFETY: the functions are used as QEMU's own COLO code does, with the big lock held: a buffer channel, a file over it
        // that holds a reference to it, and our own reference, given up at the end. `stream` has the given length.
        let (saved, len) = unsafe {
            let channel = (qemu.buffer_new)(MAX_STREAM);
            let file = (qemu.file_output)(channel);
            let saved = (qemu.save_devices)(file);
            (qemu.file_flush)(file);
            (qemu.channel_seek)(channel, 0, SEEK_SET, ptr::null_mut());
            let len = (qemu.channel_read)(channel, stream.as_mut_ptr(), stream.len(), ptr::null_mut());
            (qemu.file_close)(file);
            (qemu.object_unref)(channel.cast());
            (saved, len)
        };
        let Ok(len) = usize::try_from(len) else {
            return Err("QEMU's device state cannot be read back".into());
        };
        if saved < 0 || len == 0 {
            return Err(format!("QEMU cannot save its devices (error {saved}, {len} bytes)"));
        }
        stream.truncate(len);
        let sections = sections(&stream).ok_or("QEMU's device state has an unknown form")?;
        let mut kept = Vec::new();
        for section in sections.iter().filter(|section| is_kept(section.name)) {
            kept.extend_from_slice(section.bytes);
        }
        kept.push(END_OF_STREAM);
        Ok(Self { stream: kept })
    }

    /// Restores the devices. The big lock must be held.
    ///
    /// # Errors
    /// If QEMU refuses its own state.
    pub(crate) fn restore(&self, qemu: &Qemu) -> Result<(), String> {
        // SAFETY: as in `save`; QEMU reads the stream only while it is loaded, and copies it on write.
        let loaded = unsafe {
            let channel = (qemu.buffer_new)(self.stream.len());
            (qemu.channel_write)(channel, self.stream.as_ptr(), self.stream.len(), ptr::null_mut());
            (qemu.channel_seek)(channel, 0, SEEK_SET, ptr::null_mut());
            let file = (qemu.file_input)(channel);
            let loaded = (qemu.load_devices)(file);
            (qemu.file_close)(file);
            (qemu.object_unref)(channel.cast());
            loaded
        };
        if loaded < 0 { Err(format!("QEMU cannot restore its devices (error {loaded})")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, name: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![SECTION_FULL, 0, 0, 0, id, u8::try_from(name.len()).unwrap()];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&[SECTION_FOOTER, 0, 0, 0, id]);
        bytes
    }

    #[test]
    fn splits_a_stream_even_where_a_body_looks_like_a_footer() {
        let mut stream = b"QEVM\0\0\0\x03".to_vec();
        stream.extend(section(1, "timer", &[SECTION_FOOTER, 0, 0, 0, 1, 9]));
        stream.extend(section(2, "cpu", &[1, 2, 3]));
        stream.extend(section(3, "0000:00:1f.0/ICH9LPC", &[]));
        stream.push(END_OF_STREAM);
        let found = sections(&stream).unwrap();
        let names: Vec<_> = found.iter().map(|s| String::from_utf8_lossy(s.name).into_owned()).collect();
        assert_eq!(names, ["timer", "cpu", "0000:00:1f.0/ICH9LPC"]);
        assert_eq!(found[0].bytes, section(1, "timer", &[SECTION_FOOTER, 0, 0, 0, 1, 9]));
        assert!(is_kept(b"timer") && !is_kept(b"cpu") && is_kept(b"x/serial"));
    }

    #[test]
    fn refuses_a_stream_that_is_cut_off() {
        let whole = section(1, "timer", &[1, 2, 3]);
        assert!(sections(&whole[..whole.len() - 1]).is_none());
        assert!(sections(&[]).is_none());
    }
}
