//! What the processes of a campaign tell each other.
//!
//! Messages of other machines come over a network: nothing in them is taken at its word.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::totals::Report;
use crate::{
    campaign::{
        check::Mismatch,
        examine::{About, Files, REPORT, Unconfirmed},
        store::FINDING_FILES,
    },
    program::{Program, wire},
    report::finding::printable,
    triage::bucket::Bucket,
};

/// Version of the messages. Others are not understood.
const VERSION: u16 = 1;
/// Largest message that is looked at, in bytes.
const MAX_LEN: usize = 16 << 20;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sender {
    /// The parent of the process, or itself: a random number.
    pub hub: u64,
    /// Which worker it is, and the how many-th in its place; none for the parent.
    pub worker: Option<(u32, u32)>,
}

/// A message with its sender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    version: u16,
    /// [`campaign_id`].
    campaign: u64,
    /// Who says it.
    pub from: Sender,
    /// What.
    pub message: Message,
}

/// What is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A program joined the corpus; in wire form.
    Entry(Vec<u8>),
    /// A worker examines a program that opened a bucket.
    Claimed(Bucket, Vec<u8>),
    /// Whoever examined this bucket did not come to an end.
    Released(Bucket),
    /// A candidate came to nothing.
    Unconfirmed(Unconfirmed),
    /// A finding.
    Finding(Bucket, Files),
    /// A machine was quarantined.
    Mismatch(Mismatch),
    /// What a worker has done since it began.
    Report(Box<Report>),
    /// Something for people.
    Note(String),
    /// The sender is there.
    Beat,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is none.
    Nonsense,
    /// It is about another target, or from another version.
    Foreign,
}

/// Campaigns with the same number may exchange programs and findings: same target, build and planted bugs.
#[must_use]
pub fn campaign_id(about: &About) -> u64 {
    let text = format!("{VERSION}\n{}\n{}\n{}", about.target, about.build, about.plants.join(","));
    let hash = Sha256::digest(text);
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Makes the bytes of a message.
#[must_use]
pub fn encode(campaign: u64, from: Sender, message: Message) -> Vec<u8> {
    // Nothing in a message can fail to be encoded: it is made of numbers, texts and lists.
    postcard::to_stdvec(&Envelope { version: VERSION, campaign, from, message }).unwrap_or_default()
}

/// Reads a message.
///
/// # Errors
/// Why it is not taken.
pub fn decode(bytes: &[u8], campaign: u64) -> Result<Envelope, (Refused, Option<Sender>)> {
    if bytes.len() > MAX_LEN {
        return Err((Refused::Nonsense, None));
    }
    // The head is the same in all versions.
    let Ok(((version, id, from), _)) = postcard::take_from_bytes::<(u16, u64, Sender)>(bytes) else {
        return Err((Refused::Nonsense, None));
    };
    if version != VERSION || id != campaign {
        return Err((Refused::Foreign, Some(from)));
    }
    let mut envelope: Envelope = postcard::from_bytes(bytes).map_err(|_| (Refused::Nonsense, Some(from)))?;
    let good = match &mut envelope.message {
        Message::Claimed(bucket, _) | Message::Released(bucket) => is_bucket(bucket),
        Message::Unconfirmed(unconfirmed) => is_bucket(&unconfirmed.bucket),
        Message::Finding(bucket, files) => is_bucket(bucket) && is_finding(files),
        Message::Note(text) => {
            *text = printable(text);
            true
        }
        Message::Entry(_) | Message::Mismatch(_) | Message::Report(_) | Message::Beat => true,
    };
    if good { Ok(envelope) } else { Err((Refused::Nonsense, Some(from))) }
}

/// The program of a message, if it is one.
#[must_use]
pub fn program(bytes: &[u8]) -> Option<Program> {
    wire::decode(bytes).ok()
}

/// True where a bucket's name is fit for a directory.
fn is_bucket(bucket: &Bucket) -> bool {
    bucket.name().len() <= 200 && Bucket::from_name(bucket.name()).is_some()
}

/// True for files as an examiner makes them. Their text is made fit for a terminal.
fn is_finding(files: &mut Files) -> bool {
    for (name, content) in &mut files.files {
        if name == REPORT {
            *content = printable(&String::from_utf8_lossy(content)).into_bytes();
        }
    }
    let last = files.files.last().is_some_and(|(name, _)| name == REPORT);
    let known = files.files.iter().all(|(name, _)| FINDING_FILES.contains(&name.as_str()));
    last && known && files.get("program.hfw").and_then(program).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::program::text;

    const SENDER: Sender = Sender { hub: 7, worker: Some((1, 0)) };

    fn about() -> About {
        About { seed: 1, target: "reference-hvm".into(), build: "00".into(), plants: Vec::new() }
    }

    fn finding(names: &[&str]) -> Message {
        let wire = wire::encode(&text::parse("d1 sched_op.yield()").unwrap()).unwrap();
        let content = |name: &str| if name == "program.hfw" { wire.clone() } else { b"text\x1b[2J".to_vec() };
        let files = names.iter().map(|name| ((*name).to_owned(), content(name))).collect();
        Message::Finding(Bucket::from_name("panic-here-00").unwrap(), Files { files })
    }

    fn through(message: Message) -> Result<Envelope, Refused> {
        decode(&encode(5, SENDER, message), 5).map_err(|(refused, _)| refused)
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let envelope = through(Message::Entry(vec![1, 2])).unwrap();
        assert_eq!(envelope.from, SENDER);
        assert!(matches!(envelope.message, Message::Entry(bytes) if bytes == [1, 2]));
        let envelope = through(finding(&["program.hf", "program.hfw", REPORT])).unwrap();
        let Message::Finding(_, files) = envelope.message else { panic!("a finding") };
        assert_eq!(files.get(REPORT), Some("text\u{fffd}[2J".as_bytes()), "nothing that drives a terminal");
    }

    #[test]
    fn other_campaigns_and_versions_are_told_from_nonsense() {
        let bytes = encode(6, SENDER, Message::Beat);
        assert_eq!(decode(&bytes, 5).unwrap_err(), (Refused::Foreign, Some(SENDER)));
        let mut other = encode(5, SENDER, Message::Beat);
        other[0] = 99;
        assert_eq!(decode(&other, 5).unwrap_err(), (Refused::Foreign, Some(SENDER)));
        assert_ne!(campaign_id(&about()), campaign_id(&About { build: "01".into(), ..about() }));
        assert_eq!(campaign_id(&about()), campaign_id(&About { seed: 2, ..about() }));
    }

    #[test]
    fn findings_cannot_name_files_of_others() {
        for names in [
            vec!["../../x", "program.hfw", REPORT],
            vec!["program.hf", REPORT],
            vec!["program.hfw"],
            vec!["program.hfw", REPORT, "program.hf"],
            vec![],
        ] {
            assert_eq!(through(finding(&names)).unwrap_err(), Refused::Nonsense, "{names:?}");
        }
        let bucket: Bucket = serde_json::from_str("\"../etc\"").unwrap();
        assert_eq!(through(Message::Released(bucket)).unwrap_err(), Refused::Nonsense);
    }

    proptest! {
        /// Whatever comes over the network, nothing panics.
        #[test]
        fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), keep in 0usize..40) {
            let mut good = encode(5, SENDER, finding(&["program.hfw", REPORT]));
            let _ = decode(&bytes, 5);
            let keep = keep.min(good.len());
            good.truncate(keep);
            good.extend(&bytes);
            if let Ok(Envelope { message: Message::Entry(bytes), .. }) = decode(&good, 5) {
                let _ = program(&bytes);
            }
        }
    }
}
