//! Who waits for a place that others have is not taken for silent meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;

use super::event::Event;
use super::spool::Waiting;
use crate::task::TaskId;
use crate::wire::control::LeaseId;

/// It says so, and no more: whether it has time is its coordinator's to say, which knows whether others wait.
#[tokio::test(start_paused = true)]
async fn who_waits_keeps_its_lease() {
    let (events, mut told) = mpsc::channel(1024);
    let (task, lease) = (TaskId::from_hash([1; 32]), LeaseId { number: 4, epoch: 7 });
    Waiting { task, lease, events: &events }.place(tokio::time::sleep(Duration::from_secs(901))).await;
    drop(events);
    let mut times = 0;
    while let Some(event) = told.recv().await {
        let Event::LeaseProgress { end: 0, .. } = event else { panic!("{event:?}") };
        times += 1;
    }
    assert_eq!(times, 450, "every two seconds");
}
