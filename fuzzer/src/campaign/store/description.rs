//! What a campaign is about: the file `campaign.json`.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    error::{StoreError, io_error},
    files::{write_atomically, write_durably},
};

/// Version of the directory's layout.
pub const FORMAT: u32 = 1;
/// Name of the file in a campaign's directory.
pub(super) const NAME: &str = "campaign.json";

/// What a campaign is about. The file `campaign.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of hyperfuzz that made it.
    pub hyperfuzz: String,
    /// Name of the target.
    pub target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
    /// Planted bugs that are switched on.
    pub plants: Vec<String>,
    /// Seed of the first session.
    pub seed: u64,
    /// Sessions that were begun.
    pub sessions: u64,
}

impl Description {
    /// One for tests, in which it does not matter what the campaign is about.
    #[cfg(test)]
    pub fn any(sessions: u64) -> Self {
        Self {
            format: FORMAT,
            hyperfuzz: "0".into(),
            target: "reference-pv".into(),
            build: "00".into(),
            plants: Vec::new(),
            seed: 1,
            sessions,
        }
    }

    /// Reads a description.
    ///
    /// # Errors
    /// When it is none, or of another format.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, StoreError> {
        let bad = |reason: String| StoreError::Description { path: path.to_owned(), reason };
        // The format is looked at first: another version's fields are none of our business.
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| bad(format!("not a campaign description: {e}")))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(bad(format!("format {format}, but this hyperfuzz reads format {FORMAT}")));
            }
            None => return Err(bad("no format number".into())),
        }
        serde_json::from_value(value).map_err(|e| bad(format!("not a campaign description: {e}")))
    }

    /// Looks whether a campaign that is wanted is the one that is there.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn is_about(&self, wanted: &Self, root: &Path) -> Result<(), StoreError> {
        let same = |what, theirs: &str, ours: &str| {
            if theirs == ours {
                return Ok(());
            }
            let show = |s: &str| if s.is_empty() { "(none)".to_owned() } else { s.to_owned() };
            Err(StoreError::Mismatch { path: root.to_owned(), what, theirs: show(theirs), ours: show(ours) })
        };
        same("target", &self.target, &wanted.target)?;
        same("build", &self.build, &wanted.build)?;
        same("planted bugs", &self.plants.join(","), &wanted.plants.join(","))
    }

    /// Puts it into a campaign's directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn store(&self, root: &Path) -> Result<(), StoreError> {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        // One that takes another's place is never empty, whatever happens to the machine.
        let write = if self.sessions > 1 { write_atomically } else { write_durably };
        write(&root.join(NAME), text.as_bytes())
    }
}

/// What the campaign in a directory is about. It may be going on: nothing is locked or changed.
///
/// # Errors
/// When there is none, or it cannot be understood.
pub fn description(root: &Path) -> Result<Description, StoreError> {
    let path = root.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = "there is no campaign here; `hyperfuzz fuzz DIR` makes one".into();
            return Err(StoreError::Program { path, reason });
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    Description::parse(&path, &text)
}
