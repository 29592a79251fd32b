//! Reads a campaign that may be going on, again and again.

use std::path::{Path, PathBuf};

use super::Data;
use crate::{
    campaign::store,
    coverage::Map,
    images,
    triage::{points, symbols::Symbols},
};

/// Reads a campaign's directory. What edges mean in terms of source code is looked up once for each build.
///
/// Nothing is locked or changed: all files but the metrics are replaced whole, and of the metrics a line that is being written is passed
/// over.
#[derive(Debug)]
pub struct Reader {
    campaign: PathBuf,
    map: Option<(String, Option<Map>)>,
}

impl Reader {
    /// A reader for the campaign in a directory.
    pub fn new(campaign: &Path) -> Self {
        Self { campaign: campaign.to_owned(), map: None }
    }

    /// What the campaign has come to by now.
    ///
    /// # Errors
    /// When there is none, or a file in it cannot be read or understood.
    pub fn read(&mut self) -> anyhow::Result<Data> {
        let build = store::description(&self.campaign)?.build;
        if self.map.as_ref().is_none_or(|(known, _)| *known != build) {
            let map = map_of(&build)?;
            self.map = Some((build, map));
        }
        Data::read(&self.campaign, self.map())
    }

    /// The source code behind the edges of what was last read; none for a build that this executable does not carry.
    pub fn map(&self) -> Option<&Map> {
        self.map.as_ref().and_then(|(_, map)| map.as_ref())
    }
}

/// The source code behind the edges of a build, if it is the one that this executable carries.
fn map_of(build: &str) -> anyhow::Result<Option<Map>> {
    if images::build().as_deref() != Some(build) {
        return Ok(None);
    }
    let symbols = Symbols::from_elf(images::HYPERVISOR)?;
    Ok(Some(Map::new(images::HYPERVISOR, &points::read(images::HYPERVISOR)?, &symbols)?))
}
