//! The pipeline from a source of pages to the writer.
//!
//! One thread walks the source and splits its pages; a bounded channel carries them to the
//! caller's thread, which groups them into transactions. The end is a message of its own: a
//! walker that dies must never look like a feed that ended.

use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::decode::SplitPage;
use crate::error::Result;
use crate::store::WalkPosition;

/// Pages in flight between the walker of a feed and the writer.
const IN_FLIGHT: usize = 4;
/// Files may be read ahead, but no further than this: then a batch waits while one is written.
const READ_AHEAD_PAGES: usize = 1_024;
const READ_AHEAD_BYTES: usize = 24 << 20;
/// A batch takes pages until it has this many records or bytes.
const BATCH_RECORDS: usize = 20_000;
const BATCH_BYTES: usize = 16 << 20;
/// The first batch is this small, each one after it twice as large: what the first ones tell (a
/// dictionary, the records that are known) is there for nearly all.
const FIRST_BYTES: usize = 2 << 20;

/// A page, and where the walk goes on once it is applied.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) page: SplitPage,
    pub(crate) after: WalkPosition,
}

/// Whatever gives pages one after the other.
pub(crate) trait Walker: Send {
    /// The next page, or `None` at the proven end.
    fn next(&mut self) -> Result<Option<Step>>;
}

/// When a transaction is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// As soon as no page waits: a slow feed loses at most the page under way.
    WhenIdle,
    /// When it is full: a file can be read again.
    Full,
}

enum Message {
    Step(Box<Step>),
    Failed(crate::error::Error),
    End,
}

/// Runs `walker` to its end and hands its pages to `apply`, in order and in batches.
///
/// # Errors
/// The first error of either. Pages that came before the walker's error are applied first.
pub(crate) fn pump(
    walker: &mut dyn Walker,
    grouping: Grouping,
    mut apply: impl FnMut(Vec<Step>) -> Result<()>,
) -> Result<()> {
    let flight = &Flight::default();
    std::thread::scope(|scope| {
        let (send, receive) = bounded(match grouping {
            Grouping::WhenIdle => IN_FLIGHT,
            Grouping::Full => READ_AHEAD_PAGES,
        });
        let producer = scope.spawn(move || {
            loop {
                let message = match walker.next() {
                    Ok(Some(step)) => Message::Step(Box::new(step)),
                    Ok(None) => Message::End,
                    Err(e) => Message::Failed(e),
                };
                let last = !matches!(message, Message::Step(_));
                if let Message::Step(step) = &message {
                    flight.board(step.page.body.len());
                }
                // A closed channel means that the writer failed: its error is the one to tell.
                if send.send(message).is_err() || last {
                    return;
                }
            }
        });
        // Also when `apply` panics, the walker must not wait for ever.
        let landed = Landed(flight);
        let result = drain(&receive, grouping, flight, &mut apply);
        drop((receive, landed));
        if let Err(panic) = producer.join() {
            std::panic::resume_unwind(panic);
        }
        result
    })
}

fn drain(
    receive: &Receiver<Message>,
    grouping: Grouping,
    flight: &Flight,
    apply: &mut impl FnMut(Vec<Step>) -> Result<()>,
) -> Result<()> {
    let mut batch = Batch::new(grouping);
    loop {
        let next = match grouping {
            Grouping::WhenIdle if !batch.steps.is_empty() => match receive.try_recv() {
                Err(TryRecvError::Empty) => {
                    apply(batch.take())?;
                    continue;
                }
                other => other.ok(),
            },
            _ => receive.recv().ok(),
        };
        match next {
            Some(Message::Step(step)) => {
                flight.leave(step.page.body.len());
                batch.push(*step);
                if batch.is_full() {
                    apply(batch.take())?;
                }
            }
            Some(Message::End) => return apply(batch.take()),
            Some(Message::Failed(error)) => {
                apply(batch.take())?;
                return Err(error);
            }
            // The walker panicked; `pump` passes it on. Nothing unfinished is applied.
            None => return Ok(()),
        }
    }
}

/// The bytes between the walker and the writer.
#[derive(Default)]
struct Flight {
    state: Mutex<InFlight>,
    changed: Condvar,
}

#[derive(Default)]
struct InFlight {
    held: usize,
    /// Bytes that have arrived: no more than these are ahead, at first.
    arrived: usize,
    closed: bool,
}

impl Flight {
    /// Waits until there is room for so many bytes; one page always finds some.
    fn board(&self, bytes: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |state: &mut InFlight| {
            let room = (FIRST_BYTES + state.arrived).min(READ_AHEAD_BYTES);
            !state.closed && state.held > 0 && state.held + bytes > room
        };
        let mut state = self
            .changed
            .wait_while(state, full)
            .unwrap_or_else(PoisonError::into_inner);
        state.held += bytes;
    }

    fn leave(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held = state.held.saturating_sub(bytes);
        state.arrived += bytes;
        self.changed.notify_one();
    }
}

/// Nobody takes what is in flight any more.
struct Landed<'a>(&'a Flight);

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.changed.notify_one();
    }
}

struct Batch {
    steps: Vec<Step>,
    records: usize,
    bytes: usize,
    limit: usize,
}

impl Batch {
    fn new(grouping: Grouping) -> Self {
        Batch {
            steps: Vec::new(),
            records: 0,
            bytes: 0,
            limit: match grouping {
                Grouping::WhenIdle => BATCH_BYTES,
                Grouping::Full => FIRST_BYTES,
            },
        }
    }

    fn push(&mut self, step: Step) {
        self.records += step.page.entities.len();
        self.bytes += step.page.body.len();
        self.steps.push(step);
    }

    fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS || self.bytes >= self.limit
    }

    fn take(&mut self) -> Vec<Step> {
        self.limit = (self.limit * 2).min(BATCH_BYTES);
        (self.records, self.bytes) = (0, 0);
        std::mem::take(&mut self.steps)
    }
}

/// Does jobs on at most `workers` threads, each with a state of its own, and hands the results to
/// `done` on the caller's thread, in the order they come.
///
/// # Errors
/// The first error of `done`: then no further job is begun.
pub(crate) fn fan_out<J: Send, S, R: Send>(
    jobs: Vec<J>,
    workers: usize,
    state: &(dyn Fn() -> S + Sync),
    work: impl Fn(&mut S, J) -> R + Sync,
    mut done: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let workers = workers.clamp(1, jobs.len().max(1));
    let (give, take) = bounded(jobs.len().max(1));
    for job in jobs {
        // The channel holds them all, and its other end lives below.
        if give.send(job).is_err() {
            break;
        }
    }
    drop(give);
    std::thread::scope(|scope| {
        let (send, receive) = bounded(workers);
        let work = &work;
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                let (take, send) = (take.clone(), send.clone());
                scope.spawn(move || {
                    let mut state = state();
                    while let Ok(job) = take.recv() {
                        if send.send(work(&mut state, job)).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        drop(send);
        let result = receive.iter().try_for_each(&mut done);
        drop(receive);
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    struct Numbers {
        left: u32,
        then: fn() -> Result<Option<Step>>,
    }

    impl Walker for Numbers {
        fn next(&mut self) -> Result<Option<Step>> {
            if self.left == 0 {
                return (self.then)();
            }
            self.left -= 1;
            let body = b"{\"value\":[{\"ListingKey\":\"a\"}]}".to_vec();
            let page = SplitPage::split("Property", "p", body, None).unwrap();
            Ok(Some(Step {
                page,
                after: WalkPosition::Start,
            }))
        }
    }

    fn run(left: u32, then: fn() -> Result<Option<Step>>) -> (usize, Result<()>) {
        let mut pages = 0;
        let mut walker = Numbers { left, then };
        let result = pump(&mut walker, Grouping::Full, |batch| {
            pages += batch.len();
            Ok(())
        });
        (pages, result)
    }

    #[test]
    fn all_pages_arrive_before_the_end_or_the_error() {
        let (pages, result) = run(100, || Ok(None));
        assert!(result.is_ok());
        assert_eq!(pages, 100);
        let (pages, result) = run(7, || Err(Error::Usage("x".into())));
        assert_eq!(pages, 7);
        assert!(result.is_err());
    }

    #[test]
    fn a_writer_that_fails_stops_the_walker() {
        let mut walker = Numbers {
            left: u32::MAX,
            then: || Ok(None),
        };
        let result = pump(&mut walker, Grouping::WhenIdle, |_| {
            Err(Error::Usage("full".into()))
        });
        assert!(result.is_err());
    }

    #[test]
    #[should_panic(expected = "the walker died")]
    fn a_walker_that_dies_is_no_end() {
        let _ = run(3, || panic!("the walker died"));
    }
}
