//! What runs along behind a download: the output, written piece by piece as proven, and the caller's digest over
//! the contiguous prefix. When the last piece is proven both are nearly done.

use std::path::PathBuf;
use std::sync::Arc;

use super::content::Content;
use super::engine::Engine;
use super::{Exported, Proof, Request};
use crate::store::{ExportOptions, Output};
use crate::task::{Algorithm, Digest, DigestHasher, HaveMap};
use crate::{Error, ErrorKind, Result};

/// How many pieces one disk job copies at most, so that jobs of several downloads take turns.
const PIECES_PER_JOB: usize = 16;

/// How many bytes of the prefix one disk job hashes at most.
const HASH_BYTES: u64 = 4 << 20;

/// How many bytes are read at a time to be hashed.
const READ_BYTES: usize = 256 << 10;

/// A BLAKE3 digest is proven by the piece hashes; any other one needs the bytes.
fn hashed(digest: &Digest) -> Option<(DigestHasher, u64)> {
    let algorithm = Some(digest.algorithm()).filter(|algorithm| *algorithm != Algorithm::Blake3);
    algorithm.map(|algorithm| (DigestHasher::new(algorithm), 0))
}

pub(super) struct Follower {
    engine: Engine,
    content: Arc<Content>,
    output: Option<(PathBuf, Box<Output>)>,
    copied: HaveMap,
    digest: Option<(DigestHasher, u64)>,
    /// With this root it has the caller's digest: it was read before.
    known: Option<[u8; 32]>,
}

impl Follower {
    /// Opens the output, if one is asked for, so that errors about it come before the first byte is fetched.
    pub(super) async fn start(engine: &Engine, content: &Arc<Content>, request: &Request) -> Result<Self> {
        let output = match &request.output {
            None => None,
            Some(path) => {
                let options = ExportOptions { overwrite: request.overwrite, ..ExportOptions::default() };
                let (entry, to) = (Arc::clone(&content.entry), path.clone());
                let output = engine.node().io().run(move || entry.output(&to, options)).await??;
                Some((path.clone(), Box::new(output)))
            }
        };
        let known = request.digest.as_ref().and_then(|digest| content.root_of_digest(digest));
        let digest = request.digest.as_ref().filter(|_| known.is_none()).and_then(hashed);
        Ok(Self {
            engine: engine.clone(),
            content: Arc::clone(content),
            output,
            copied: HaveMap::empty(content.layout.pieces()),
            digest,
            known,
        })
    }

    /// Takes in what is newly held; how many bytes are held now.
    pub(super) async fn catch_up(&mut self) -> Result<u64> {
        let have = self.content.entry.have();
        self.copy(&have).await?;
        self.hash(&have).await?;
        let layout = self.content.layout;
        let last = layout.pieces().checked_sub(1);
        let missing_of_last = last.filter(|last| have.contains(*last)).and_then(|last| layout.length_of(last));
        let short = missing_of_last.map_or(0, |length| layout.piece_length() - length);
        Ok(u64::from(have.held()) * layout.piece_length() - short)
    }

    async fn copy(&mut self, have: &HaveMap) -> Result<()> {
        let Some((path, mut output)) = self.output.take_if(|(_, output)| output.follows()) else { return Ok(()) };
        let fresh: Vec<u32> = have.iter().filter(|piece| !self.copied.contains(*piece)).collect();
        for pieces in fresh.chunks(PIECES_PER_JOB) {
            let job = pieces.to_vec();
            let copied = move || {
                let outcome = job.iter().try_for_each(|piece| output.piece(*piece));
                (output, outcome)
            };
            let outcome;
            (output, outcome) = self.engine.node().io().run(copied).await?;
            outcome?;
            for piece in pieces {
                self.copied.insert(*piece);
            }
        }
        self.output = Some((path, output));
        Ok(())
    }

    async fn hash(&mut self, have: &HaveMap) -> Result<()> {
        let layout = self.content.layout;
        let prefix = have.next(0, false).map_or(layout.length(), |missing| layout.offset(missing));
        while let Some((mut hasher, from)) = self.digest.take() {
            let to = prefix.min(from + HASH_BYTES);
            if from >= to {
                self.digest = Some((hasher, from));
                break;
            }
            let entry = Arc::clone(&self.content.entry);
            let hashed = move || -> Result<DigestHasher> {
                let mut buffer = vec![0; READ_BYTES.min((to - from) as usize)];
                let mut position = from;
                while position < to {
                    let take = buffer.len().min((to - position) as usize);
                    entry.read_at(position, &mut buffer[..take])?;
                    hasher.update(&buffer[..take]);
                    position += take as u64;
                }
                Ok(hasher)
            };
            let hasher = self.engine.node().io().run(hashed).await??;
            self.digest = Some((hasher, to));
        }
        Ok(())
    }

    /// Compares complete content with the digest that the caller gave.
    pub(super) async fn check_digest(
        &mut self,
        root: &Digest,
        expected: Option<&Digest>,
        proof: Proof,
    ) -> Result<Proof> {
        let Some(expected) = expected else { return Ok(proof) };
        match self.known.take() {
            Some(known) if root.bytes() == known => return Ok(Proof::Verified),
            Some(_) => self.digest = hashed(expected),
            None => {}
        }
        self.catch_up().await?;
        let found = match self.digest.take() {
            None => root.clone(),
            Some((hasher, _)) => hasher.finish(),
        };
        if found != *expected {
            let context = format!("the content has the digest {found}, not {expected}");
            return Err(Error::new(ErrorKind::DigestMismatch, context));
        }
        self.content.found_digest(found);
        Ok(Proof::Verified)
    }

    /// Gives the output its name. By then the content outlives a kill of this process, too: who is told that it is complete
    /// may count on that.
    pub(super) async fn finish(mut self) -> Result<Option<(PathBuf, Exported)>> {
        self.catch_up().await?;
        self.engine.keep(&self.content).await?;
        let Some((path, output)) = self.output.take() else { return Ok(None) };
        // Who was told that it failed, or has gone, is not to find it there later.
        let wanted = Arc::new(());
        let gone = Arc::downgrade(&wanted);
        let named = move || output.finish_if(&|| gone.strong_count() > 0);
        let exported = self.engine.node().io().run(named).await??;
        drop(wanted);
        Ok(Some((path, exported)))
    }
}
