//! What a command line asks for: which URLs, and where each goes.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::args::Fetch;
use crate::error::Failure;
use crate::model::FetchRequest;
use crate::names::{nearest, output_name, redact};
use crate::output::Target;

/// The longest list of URLs that is read.
const LIST_MAX: u64 = 16 << 20;
/// The names of subcommands, to notice one that was misspelt.
const COMMANDS: [&str; 9] = ["stat", "ls", "rm", "pin", "unpin", "preheat", "tasks", "peers", "top"];

/// One download.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: FetchRequest,
    pub(super) target: Target,
    /// Whether it takes the place of what is there.
    pub(super) overwrite: bool,
}

impl Job {
    /// What to call it.
    pub(super) fn name(&self) -> String {
        let file = match &self.target {
            Target::File(path) | Target::Special(path) => {
                path.file_name().map(|name| name.to_string_lossy().into_owned())
            }
            Target::Stdout => None,
        };
        let of_url = || output_name(&self.request.url).map(|name| name.to_string_lossy().into_owned());
        file.or_else(|| of_url().ok()).unwrap_or_else(|| redact(&self.request.url))
    }
}

/// Everything that is to be fetched, checked before anything is.
pub(super) fn plan(args: &Fetch) -> Result<Vec<Job>, Failure> {
    let mut urls = args.urls.clone();
    if let Some(path) = &args.input_file {
        urls.extend(read_list(path)?);
    }
    if urls.is_empty() {
        return Err(Failure::usage("the list holds no URL"));
    }
    let mut jobs = Vec::with_capacity(urls.len());
    let mut taken = HashSet::new();
    for url in &urls {
        let job = job(args, url).map_err(|e| if urls.len() == 1 { e } else { e.while_(redact(url)) })?;
        if let Target::File(path) = &job.target
            && !taken.insert(path.clone())
        {
            let message = format!("two URLs would go to {}: give a directory with -O, or one URL", path.display());
            return Err(Failure::usage(message));
        }
        jobs.push(job);
    }
    if args.talk.json && jobs.iter().any(|job| job.target == Target::Stdout) {
        return Err(Failure::usage("--json and -O - both write to standard output"));
    }
    if urls.len() > 1 && args.naming.digest.is_some() {
        return Err(Failure::usage("--digest is of one URL: there are several"));
    }
    Ok(jobs)
}

fn job(args: &Fetch, url: &str) -> Result<Job, Failure> {
    let request = args.request(url).map_err(|failure| {
        // A word without a scheme is more likely a command that was misspelt.
        match nearest(url, COMMANDS.into_iter()).filter(|_| !url.contains(['/', ':', '.'])) {
            Some(command) => Failure::usage(format!("{}; did you mean `dfget {command}`?", failure.message)),
            None => failure,
        }
    })?;
    let target = Target::resolve(args.output.as_deref(), url, args.overwrite)?;
    Ok(Job { request, target, overwrite: args.overwrite })
}

fn read_list(path: &Path) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(LIST_MAX).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(LIST_MAX).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::io(format_args!("cannot read the list {}", path.display()), &e))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
