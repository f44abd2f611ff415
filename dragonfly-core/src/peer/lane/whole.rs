//! Small content in one answer: what a neighbour may have so from here, and what it is that has come from one.

use std::sync::Arc;

use tokio::io::AsyncWrite;

use super::reader::{Learnt, REFUTED, learn, may_serve, room, stored, take_in};
use super::writer::Writer;
use super::{Lane, LaneError};
use crate::peer::content::{Content, keep_evidence, put_evidence};
use crate::peer::event::LaneEvent;
use crate::peer::idle::is_small;
use crate::swarm::{Answered, Input};
use crate::task::{Generation, PieceHash, PieceHasher, PieceIndex, TaskId};
use crate::trust::statement::open_attestation;
use crate::wire::lane::{ASKS_MAX, Message, WHOLE_EVIDENCE_MAX};
use crate::wire::statement::Evidence;

/// The only piece of small content.
const ALL: PieceIndex = 0;

/// A neighbour asks for all of small content.
pub(super) async fn asked(lane: &Lane, (task, generation): (TaskId, Generation), length: u64) -> Result<(), LaneError> {
    {
        let mut shared = lane.shared();
        if shared.asks >= ASKS_MAX {
            return Err(LaneError::Protocol("more questions than may wait for an answer"));
        }
        shared.asks += 1;
    }
    let content = had(lane, task, generation).filter(|content| content.layout.length() == length);
    lane.tell(LaneEvent::Asked { task, generation, content }).await
}

/// The small content that this neighbour may have. As where a task is opened, and then a piece asked for: what is this host's
/// alone is as good as unknown, and what is refused looks like what is not held.
fn had(lane: &Lane, task: TaskId, generation: Generation) -> Option<Arc<Content>> {
    let found = lane.registry.find(task, generation).filter(|_| lane.node.upload_slots() > 0);
    found.filter(|content| lane.carries(content) && is_small(&content.layout) && may_serve(lane, content))
}

/// A neighbour has answered this host's question.
pub(super) async fn answered(
    lane: &Lane,
    (task, generation): (TaskId, Generation),
    items: Vec<Evidence>,
    bytes: Vec<u8>,
) -> Result<(), LaneError> {
    let asked = lane.shared().asked.remove(&(task, generation));
    let content = asked.ok_or(LaneError::Protocol("an answer to no question"))?;
    let host = lane.host;
    let answer = |answered| lane.input(Input::Answered { host, task: content.key, answered });
    if bytes.is_empty() {
        return answer(Answered::Nothing).await;
    }
    if content.layout.length() != bytes.len() as u64 {
        return Err(LaneError::Protocol("an answer of another length"));
    }
    let held_up = |host| Input::AnswerHeldUp { host };
    take_in(lane, Some(&content), bytes.len(), held_up).await;
    let Learnt { fresh, sealed } = learn(lane, &content, items.clone()).await?;
    let mut shown = Shown { lane, content: &content, items: fresh };
    if sealed {
        lane.tell(LaneEvent::Sealed { task: content.key }).await?;
    }
    let mut hasher = PieceHasher::new(ALL, content.layout.piece_length());
    hasher.update(&bytes).map_err(|_| LaneError::Protocol("more bytes than a piece has"))?;
    let value = hasher.finish(&content.layout, ALL).map_err(|_| LaneError::Protocol("a piece of another length"))?;
    let refused = match content.value(ALL) {
        Some(expected) if expected == value => None,
        // By what the neighbour itself shows it is right: this host believes somebody else.
        Some(_) if says(&items, value) => Some(Answered::Nothing),
        Some(_) => {
            tracing::debug!(?host, ?task, "small content does not match its hash");
            lane.node.metrics().pieces_refuted.add(1);
            content.count_refuted();
            Some(Answered::Refuted)
        }
        None => {
            tracing::debug!(?host, ?task, "small content that nothing proves here");
            Some(Answered::Nothing)
        }
    };
    if let Some(refused) = refused {
        // What it showed is known here from now on, and not shown again.
        keep_evidence(&lane.node, &content, shown.take()).await;
        if lane.plain && refused == Answered::Refuted {
            return Err(LaneError::Protocol(REFUTED));
        }
        return answer(refused).await;
    }
    // The lane may end at any wait: what is told to be proven the disk threads have.
    let (room, budget) = room(lane, bytes.len(), held_up).await?;
    answer(Answered::Proven).await?;
    lane.node.metrics().wholes_from_peers.add(1);
    let fresh = shown.take();
    let (node, events, content) = (lane.node.clone(), lane.events.clone(), Arc::clone(&content));
    room.run(move || {
        put_evidence(&content, &fresh);
        let outcome = content.entry.write_piece(ALL, &bytes, &value);
        drop(budget);
        stored(&node, &events, (&content, ALL), bytes.len(), outcome);
    });
    Ok(())
}

/// What a neighbour has shown and is not kept yet: it is known from then on and never shown again, so it is kept although the
/// lane may end at any wait.
struct Shown<'a> {
    lane: &'a Lane,
    content: &'a Arc<Content>,
    items: Vec<Evidence>,
}

impl Shown<'_> {
    fn take(&mut self) -> Vec<Evidence> {
        std::mem::take(&mut self.items)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let items = self.take();
        if !items.is_empty() {
            let (node, content) = (self.lane.node.clone(), Arc::clone(self.content));
            self.lane.node.spawn(async move { keep_evidence(&node, &content, items).await });
        }
    }
}

/// Whether somebody has signed, in what was shown with an answer, that its content has this value.
fn says(items: &[Evidence], value: PieceHash) -> bool {
    items.iter().any(|item| {
        let Evidence::Attestation(signed) = item else { return false };
        open_attestation(signed).is_ok_and(|(said, _)| said.first == ALL && said.values().next() == Some(value))
    })
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    /// Asks the neighbour for all of small content.
    pub(super) async fn ask(&mut self, content: Arc<Content>) -> Result<(), LaneError> {
        let (key, task, generation, length) = (content.key, content.task, content.generation, content.layout.length());
        let known = {
            let asked = &mut self.lane.shared().asked;
            // The same content anew, of which the answer is on its way, or more than it may be asked at a time.
            if asked.len() < ASKS_MAX { Some(asked.insert((task, generation), content).is_some()) } else { None }
        };
        match known {
            Some(false) => self.message(Message::Ask { task, generation, length }),
            Some(true) => Ok(()),
            None => {
                let input = Input::Answered { host: self.lane.host, task: key, answered: Answered::Unasked };
                self.lane.tell(LaneEvent::Input(input)).await
            }
        }
    }

    /// Answers the neighbour's question: with all of `content`, or with nothing.
    pub(super) async fn answer(
        &mut self,
        task: TaskId,
        generation: Generation,
        content: Option<Arc<Content>>,
    ) -> Result<(), LaneError> {
        let mut found = (Vec::new(), Vec::new());
        if let Some(content) = content
            && let Some((items, bytes)) = whole(self.lane, &content).await
            // It may have waited long for its turn, and be withdrawn or refused by now.
            && had(self.lane, task, generation).is_some_and(|now| Arc::ptr_eq(&now, &content))
        {
            self.lane.node.metrics().bytes_to_peers.add(bytes.len() as u64);
            self.lane.node.metrics().wholes_to_peers.add(1);
            self.served.sent(&content, (self.lane.node.peer_id(), self.lane.peer), bytes.len());
            found = (items, bytes);
        }
        {
            let mut shared = self.lane.shared();
            shared.asks = shared.asks.saturating_sub(1);
        }
        let (items, bytes) = found;
        self.message(Message::Whole { task, generation, items, bytes })
    }
}

/// All of small content with what proves it, once its turn has come by the limits of this host; `None` if it is not held, or not
/// proven by anybody's word that counts.
async fn whole(lane: &Lane, content: &Arc<Content>) -> Option<(Vec<Evidence>, Vec<u8>)> {
    // What is being served is not evicted.
    let _guard = content.entry.use_guard().ok()?;
    let value = content.entry.value(ALL)?;
    let items = {
        let evidence = content.evidence();
        // Who is shown another value than what it is sent has to take this host for a liar.
        evidence.value(ALL).filter(|(_, told)| *told == value)?;
        let mut items = evidence.evidence_for([ALL]);
        items.extend(evidence.seal().cloned().map(Evidence::Seal));
        items
    };
    debug_assert!(items.len() <= WHOLE_EVIDENCE_MAX, "a grant, an attestation and a seal");
    // What is not sent costs nothing of the rate.
    let length = content.layout.length() as usize;
    lane.node.throttles().upload.pass(length).await;
    content.throttles.upload.pass(length).await;
    if let Some(bytes) = content.entry.in_memory() {
        return Some((items, bytes.to_vec()));
    }
    let entry = Arc::clone(&content.entry);
    let read = move || {
        let mut bytes = vec![0; length];
        entry.read_at(0, &mut bytes).map(|()| bytes)
    };
    match lane.node.io().run_however_long(read).await {
        Ok(Ok(bytes)) => Some((items, bytes)),
        Ok(Err(error)) => {
            tracing::warn!(task = ?content.task, %error, "cannot read small content");
            None
        }
        Err(_) => None,
    }
}
