//! `hyperfuzz boot`: guests that want to live, guests that want to end, guests that want to break out.

use std::{fs, path::Path};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::{
    machine_code::{checks, hostile, image_32, image_64},
    support::{Background, gone, line, machine, until},
};

fn write(directory: &Path, name: &str, image: &[u8]) {
    fs::write(directory.join(name), image).unwrap();
}

#[test]
fn a_guest_finds_everything_that_it_may_expect() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    write(dir.path(), "32.elf", &image_32(&checks::guest(0)));
    write(dir.path(), "64.elf", &image_64(&checks::guest(0)));
    for image in ["32.elf", "64.elf"] {
        let text = format!("boot {{}}/{image} --initial-domain --cmdline word");
        let run = line(&text, dir.path()).exits(0);
        assert_eq!(run.out, "tablesword end", "{run:#?}");
        assert!(run.err.ends_with("verdict: powered off\n"), "{run:#?}");
    }
    let run = line("boot {}/32.elf", dir.path()).exits(13);
    assert_eq!(run.out, "failed: the flag of the initial domain");
    assert!(run.err.contains("verdict: crashed"), "{run:#?}");
    // Its memory ends below what it wants.
    let run = line("boot {}/32.elf --initial-domain --memory 16M", dir.path()).exits(13);
    assert_eq!(run.out, "tablesfailed: memory");
    line("boot {}/32.elf --initial-domain --memory 512M", dir.path()).exits(0);
}

#[test]
fn the_exit_code_says_how_the_guest_ended() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    for (reason, code, words) in [
        (1, 11, "reboot"),
        (2, 12, "suspended"),
        (3, 13, "crashed"),
        (4, 14, "watchdog"),
        (5, 15, "soft reset"),
    ] {
        write(dir.path(), "guest.elf", &image_64(&checks::guest(reason)));
        let run = line("boot {}/guest.elf --initial-domain --json", dir.path()).exits(code);
        let [result] = &run.events()[..] else { panic!("{run:#?}") };
        assert!(result["ended"].as_str().unwrap().contains(words), "{result}");
        assert_eq!((&result["exit"], &result["console"]), (&code.into(), &"tables end".into()), "{result}");
    }
}

#[test]
fn images_that_are_none_are_refused_with_a_reason() {
    let dir = tempdir().unwrap();
    write(dir.path(), "text.elf", b"no image");
    line("boot {}/text.elf", dir.path()).complains(&["text.elf", "no ELF file"]);
    line("boot {}/missing.elf", dir.path()).complains(&["missing.elf"]);
    for size in ["0", "1K", "1000000", "1G", "all"] {
        line(&format!("boot {{}}/text.elf --memory {size}"), dir.path()).exits(3);
    }
    let _turn = machine();
    let good = image_64(&checks::guest(0));
    // Without its note; with a damaged header; too large for its memory.
    let mut image = good.clone();
    let note = image.windows(4).position(|bytes| bytes == b"Xen\0").unwrap();
    image[note] = b'L';
    write(dir.path(), "note.elf", &image);
    let run = line("boot {}/note.elf", dir.path()).exits(1);
    assert!(run.err.contains("no PVH entry note"), "{run:#?}");
    write(dir.path(), "short.elf", &good[..100]);
    let run = line("boot {}/short.elf", dir.path()).exits(1);
    assert!(run.err.contains("no valid little-endian ELF file"), "{run:#?}");
    write(dir.path(), "large.elf", &image_64(&vec![0x90; 2 << 20]));
    let run = line("boot {}/large.elf --memory 2M", dir.path()).exits(1);
    assert!(run.err.contains("does not fit"), "{run:#?}");
}

#[test]
fn a_guest_that_does_not_end_is_ended() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let guest = hostile::all().into_iter().find(|guest| guest.name == "endless_loop").unwrap();
    write(dir.path(), "loop.elf", &image_32(guest.code));
    let run = line("boot {}/loop.elf --time 2", dir.path()).exits(17);
    assert!(run.err.contains("until the time was over"), "{run:#?}");
    let running = Background::start("boot {}/loop.elf --time 60", dir.path());
    until("it runs", || running.qemu().is_some());
    let qemu = running.qemu().unwrap();
    running.signal(Signal::INT);
    let run = running.wait().exits(130);
    assert!(run.err.contains("interrupted"), "{run:#?}");
    assert!(gone(qemu));
}

#[test]
fn hostile_guests_end_their_own_domain_and_never_the_hypervisor() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    for guest in hostile::all() {
        write(dir.path(), "guest.elf", &image_32(guest.code));
        let run = line("boot {}/guest.elf --time 8 --json", dir.path());
        let [result] = &run.events()[..] else { panic!("{}: {run:#?}", guest.name) };
        let ended = result["ended"].as_str().unwrap();
        // Powered off, crashed by itself, blocked for ever, or still busy with itself.
        assert!(matches!(run.code, Some(0 | 10..=17)), "{}: {ended}: {}", guest.name, result["hypervisor"]);
        assert!(
            !result["hypervisor"].as_str().unwrap().contains("hypervisor crash"),
            "{}: {result}",
            guest.name
        );
    }
}
