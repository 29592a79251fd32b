//! Why a campaign directory, or a file in it, cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a campaign directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on a file failed.
    #[error("cannot {action} {}: {error}{}", path.display(), hint(error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another fuzzer works here.
    #[error("{} is in use by another hyperfuzz; stop that one, or choose another directory", .0.display())]
    Locked(PathBuf),
    /// The directory holds something else.
    #[error("{} is not empty and holds no campaign; choose another directory", .0.display())]
    Foreign(PathBuf),
    /// `campaign.json` cannot be understood.
    #[error("{}: {reason}; move the directory away to start anew (nothing in it was changed)", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The campaign is about another target or build.
    #[error(
        "{} is a campaign about {what} {theirs}, this is {ours}; use another directory, or start one from its corpus with --corpus {}",
        path.display(), path.join("corpus").display()
    )]
    Mismatch {
        /// The campaign directory.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The campaign's.
        theirs: String,
        /// This build's.
        ours: String,
    },
    /// A program file cannot be understood.
    #[error("{}: {reason}", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of JSON cannot be understood.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and start again, nothing that was saved is lost",
        io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; raise the limit of this user or process and start again, nothing that was saved is lost"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; check who owns the directory, and whether it may be written to"
        }
        _ => "",
    }
}

pub(in crate::campaign) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { action, path, error }
}
