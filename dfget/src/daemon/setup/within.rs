//! Where a file of a root directory is for those whose root that is: links lead there as they lead within it, those of
//! directories too, and never out of it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use dragonfly_core::ErrorKind;

use crate::error::Failure;

/// As many as Linux follows.
const LINKS_MAX: u32 = 40;

#[derive(Debug)]
pub(super) struct Place {
    /// The file itself: no name in it below the root is a link's.
    pub(super) path: PathBuf,
    /// Whether it is known by a link.
    pub(super) is_linked: bool,
}

impl Place {
    /// Of a file below `root`; what is not there yet has no links in it.
    ///
    /// # Errors
    /// A link leads to nothing there, or in a circle; what is no directory stands where one should.
    pub(super) fn below(root: &Path, name: &Path) -> Result<Self, Failure> {
        let mut links = 0;
        let (parent, last) = (name.parent().unwrap_or(name), name.file_name().unwrap_or_default());
        let parent = walk(root, root.to_owned(), parent, (&mut links, None))?;
        let before = links;
        let path = walk(root, parent, Path::new(last), (&mut links, None))?;
        Ok(Self { path, is_linked: links > before })
    }
}

/// Where `name` leads `from` there, `by` a link or not.
fn walk(root: &Path, from: PathBuf, name: &Path, (links, by): (&mut u32, Option<&Path>)) -> Result<PathBuf, Failure> {
    let mut path = from;
    for part in name.components() {
        let part = match part {
            Component::Normal(part) => part,
            // Above a root is that root.
            Component::ParentDir if path != root => {
                path.pop();
                continue;
            }
            _ => continue,
        };
        let next = path.join(part);
        let failed = |e: io::Error| Failure::io(format_args!("cannot follow {}", next.display()), &e);
        path = match (fs::symlink_metadata(&next), by) {
            (Ok(found), _) if found.is_symlink() => {
                *links += 1;
                if *links > LINKS_MAX {
                    return Err(failed(io::Error::other("links lead in a circle")));
                }
                let to = fs::read_link(&next).map_err(failed)?;
                let from = if to.is_absolute() { root.to_owned() } else { path };
                walk(root, from, &to, (links, Some(&next)))?
            }
            (Ok(_), _) => next,
            (Err(e), None) if e.kind() == io::ErrorKind::NotFound => next,
            (Err(e), Some(link)) if e.kind() == io::ErrorKind::NotFound => {
                let message = format!(
                    "{} leads to {}, as seen from {}, which is not there",
                    link.display(),
                    next.display(),
                    root.display()
                );
                return Err(Failure::new(ErrorKind::Config, message));
            }
            (Err(e), _) => return Err(failed(e)),
        };
    }
    Ok(path)
}
