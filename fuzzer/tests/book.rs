//! The manual holds together: its chapters, files, commands and messages are there. `mdbook` is not needed for it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::error::ErrorKind;
use hyperfuzz::cli;

/// Largest picture, in bytes.
const MAX_IMAGE: u64 = 300 << 10;

/// The manual's sources.
fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and texts of all chapters, SUMMARY.md among them.
fn chapters() -> Vec<(String, String)> {
    let files =
        fs::read_dir(book()).expect("the manual is there").map(|entry| entry.expect("readable").path());
    let mut chapters: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), read(&path)))
        .collect();
    chapters.sort();
    assert!(chapters.len() > 10, "{chapters:?}");
    chapters
}

/// What stands between each `begin` and the next `end` behind it, on one line.
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin)
        .skip(1)
        .filter_map(move |rest| rest.lines().next()?.split_once(end).map(|(inside, _)| inside))
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Fenced blocks of some languages.
fn blocks<'a>(text: &'a str, languages: &'a [&str]) -> impl Iterator<Item = &'a str> {
    text.split("```").skip(1).step_by(2).filter_map(move |block| {
        let (language, body) = block.split_once('\n')?;
        languages.contains(&language).then_some(body)
    })
}

#[test]
fn the_summary_lists_every_chapter() {
    let chapters = chapters();
    let there: BTreeSet<&str> =
        chapters.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "SUMMARY.md").collect();
    let (_, summary) = chapters.iter().find(|(name, _)| name == "SUMMARY.md").expect("there is a summary");
    let listed: Vec<&str> = between(summary, "](", ")").collect();
    assert_eq!(listed.len(), listed.iter().collect::<BTreeSet<_>>().len(), "none twice: {listed:?}");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), there);
}

#[test]
fn what_is_included_is_there() {
    let mut included = BTreeSet::new();
    for (name, text) in chapters() {
        for include in between(&text, "{{#include ", "}}") {
            let (file, anchor) =
                include.split_once(':').map_or((include, None), |(file, name)| (file, Some(name)));
            let content = read(&book().join(file));
            included.insert(file.to_owned());
            let Some(anchor) = anchor else {
                assert!(!content.trim().is_empty(), "{name}: {file} is empty");
                continue;
            };
            let line = |marker: &str| {
                let wanted = format!("{marker}: {anchor}");
                let ends = |line: &str| line.trim_end_matches("-->").trim_end().ends_with(&wanted);
                let found: Vec<usize> =
                    content.lines().enumerate().filter(|(_, line)| ends(line)).map(|(at, _)| at).collect();
                assert_eq!(found.len(), 1, "{name}: {file} has {wanted} {} times", found.len());
                found[0]
            };
            assert!(line("ANCHOR") + 1 < line("ANCHOR_END"), "{name}: {file}:{anchor} is empty");
        }
    }
    let listings = fs::read_dir(book().join("listings")).expect("there are listings");
    for listing in listings {
        let name = listing.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(included.contains(&format!("listings/{name}")), "{name} is used nowhere");
    }
}

#[test]
fn links_lead_somewhere_and_pictures_are_small() {
    for (name, text) in chapters() {
        let text = prose(&text);
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let path = book().join(link);
            assert!(path.is_file(), "{name}: {link}");
            if path.extension().is_some_and(|extension| extension == "png") {
                let len = fs::metadata(&path).expect("it is a file").len();
                assert!(len < MAX_IMAGE, "{link} has {len} bytes");
            }
        }
    }
}

/// The words of a command line of hyperfuzz's, up to where another command or a file takes over.
fn words(line: &str) -> Option<Vec<&str>> {
    let stops = ["|", "&&", "||", "&", ">", "2>", "2>&1", ";"];
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !stops.contains(word)).collect();
    (words.len() > 1 && words[0] == "hyperfuzz").then_some(words)
}

#[test]
fn every_command_can_be_parsed() {
    let mut commands = 0;
    for (name, text) in chapters() {
        let prose = prose(&text);
        let shown =
            blocks(&text, &["console"]).flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
        let scripts = blocks(&text, &["sh"]).flat_map(str::lines);
        let spans = prose.split('`').skip(1).step_by(2);
        for words in shown.chain(scripts).chain(spans).filter_map(words) {
            commands += 1;
            if let Err(error) = cli::command().try_get_matches_from(&words) {
                assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{name}: {}: {error}", words.join(" "));
            }
        }
    }
    assert!(commands > 30, "only {commands} commands were found");
}

/// All sources that messages come from, as one text: format arguments are `…`, and lines that are continued are joined.
fn messages() -> String {
    fn collect(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    let mut source = String::new();
    for directory in ["src", "plugin/src", "build"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut source);
    }
    let mut text = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begun) = line.strip_suffix('\\') {
            line = format!("{begun}{}", lines.next().unwrap_or_default().trim_start());
        }
        let mut pieces = line.split('{');
        text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            match piece.split_once('}') {
                // A block of code has blanks in it, a format argument has none.
                Some((argument, rest)) if !argument.contains([' ', '"']) => {
                    text.push('…');
                    text.push_str(rest);
                }
                _ => {
                    text.push('{');
                    text.push_str(piece);
                }
            }
        }
        text.push('\n');
    }
    text.replace('`', "")
}

#[test]
fn the_messages_under_troubleshooting_are_those_of_the_program() {
    let messages = messages();
    let text = read(&book().join("troubleshooting.md"));
    let mut quoted = 0;
    for heading in text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')) {
        let message = heading.trim_matches(['…', ':', ';', ' ']);
        assert!(message.len() > 12, "{heading:?} says nothing");
        assert!(messages.contains(message), "nothing says {message:?}");
        quoted += 1;
    }
    assert!(quoted > 25, "only {quoted} messages were found");
}
