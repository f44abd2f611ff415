//! Who waits for a place that others have is not taken for silent meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;

use super::event::Event;
use super::origin::Waiting;
use crate::task::TaskId;
use crate::wire::control::LeaseId;

/// A coordinator lets a describing host have its time anew each time that it is further than it was.
#[tokio::test(start_paused = true)]
async fn who_waits_alone_is_further_each_time() {
    for (alone, end) in [(true, 453), (false, 3)] {
        let (events, mut told) = mpsc::channel(1024);
        let (task, lease) = (TaskId::from_hash([1; 32]), LeaseId { number: 4, epoch: 7 });
        let mut waiting = Waiting { task, lease, events: &events, alone, reached: 3 };
        waiting.place(tokio::time::sleep(Duration::from_secs(901))).await;
        assert_eq!(waiting.reached, end, "every two seconds, if at all");
        drop(events);
        let mut last = 3;
        let mut times = 0;
        while let Some(event) = told.recv().await {
            let Event::LeaseProgress { end, .. } = event else { panic!("{event:?}") };
            last += u32::from(alone);
            assert_eq!(end, last);
            times += 1;
        }
        assert_eq!(times, 450, "the lease is kept");
    }
}
