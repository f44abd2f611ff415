//! Who waits for a place that others have is not taken for silent meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;

use super::event::Event;
use super::origin::place;
use crate::task::TaskId;
use crate::wire::control::LeaseId;

/// A coordinator lets a describing host have its time anew each time that it is further than it was.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_is_further_each_time() {
    let (events, mut told) = mpsc::channel(1024);
    let (task, lease) = (TaskId::from_hash([1; 32]), LeaseId { number: 4, epoch: 7 });
    let mut reached = 3;
    place(tokio::time::sleep(Duration::from_secs(901)), (task, lease, &mut reached), &events).await;
    drop(events);
    let mut last = 3;
    while let Some(event) = told.recv().await {
        let Event::LeaseProgress { end, .. } = event else { panic!("{event:?}") };
        assert_eq!(end, last + 1);
        last = end;
    }
    assert_eq!((last, reached), (453, 453), "every two seconds");
}
