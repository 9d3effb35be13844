//! The pipeline from a source of pages to the writer.
//!
//! One thread walks the source; a bounded channel carries its pages to the caller's thread, which
//! groups them into transactions. Files are only read by the walker: what is in them is split and
//! decoded by threads of their own, while the caller's writes what came before, and arrives in the
//! order of the walk all the same. The end is a message of its own: a walker that dies must never
//! look like a feed that ended.

use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use super::ahead::ReadyPage;
use crate::decode::SplitPage;
use crate::error::Result;
use crate::store::WalkPosition;

/// Pages in flight between the walker of a feed and the writer.
const IN_FLIGHT: usize = 4;
/// Files may be read ahead, but no further than this: then a batch waits while one is written.
const READ_AHEAD_PAGES: usize = 1_024;
const READ_AHEAD_BYTES: usize = 10 << 20;
/// A batch takes pages until it has this many records or bytes.
const BATCH_RECORDS: usize = 20_000;
const BATCH_BYTES: usize = 4 << 20;
/// The first batch is this small, each one after it twice as large: what the first ones tell (a
/// dictionary, the records that are known) is there for nearly all.
const FIRST_BYTES: usize = 2 << 20;

/// A page, and where the walk goes on once it is applied.
pub(crate) struct Step {
    pub(crate) page: SplitPage,
    pub(crate) after: WalkPosition,
    /// What was decoded ahead; mostly nothing of a feed.
    pub(crate) ready: ReadyPage,
}

impl Step {
    pub(crate) fn new(page: SplitPage, after: WalkPosition) -> Self {
        Step {
            page,
            after,
            ready: ReadyPage::new(),
        }
    }
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
    /// Pages that are being made, and the bytes they are made of.
    Later(Receiver<Vec<Step>>, usize),
    Failed(crate::error::Error),
    End,
}

/// What the walker gives to be made into pages, one thing after the other.
pub(super) struct Jobs<'a, T>(&'a Receiver<(T, Sender<Vec<Step>>)>);

impl<T> Jobs<'_, T> {
    /// The next one, and where its pages go; `None` at the end.
    pub(super) fn next(&mut self) -> Option<(T, Reply)> {
        let (input, reply) = self.0.recv().ok()?;
        Some((input, Reply(reply)))
    }
}

/// Where pages go.
pub(super) struct Reply(Sender<Vec<Step>>);

impl Reply {
    pub(super) fn send(self, steps: Vec<Step>) {
        // Nobody waits for them when the writer failed: its error is the one to tell.
        let _ = self.0.send(steps);
    }
}

/// How a walker's pieces become pages, on threads of their own.
pub(super) struct Making<'a, T> {
    /// How many threads.
    pub(super) workers: usize,
    /// How many bytes the next piece has, and the piece; `None` at the end.
    pub(super) next: &'a mut (dyn FnMut() -> Result<Option<(usize, T)>> + Send),
    /// Works until there are no more jobs.
    pub(super) work: &'a (dyn Fn(&mut Jobs<'_, T>) + Sync),
}

/// As [`pump`], with pieces that are made into pages on the way.
///
/// # Errors
/// As [`pump`].
pub(super) fn pump_made<T: Send>(
    making: Making<'_, T>,
    mut apply: impl FnMut(Vec<Step>) -> Result<()>,
) -> Result<()> {
    let flight = &Flight::default();
    let Making {
        workers,
        next,
        work,
    } = making;
    std::thread::scope(|scope| {
        let (send, receive) = bounded(READ_AHEAD_PAGES);
        // Bounded by the bytes in flight.
        let (give, take) = unbounded();
        let mut threads: Vec<_> = (0..workers.max(1))
            .map(|_| {
                let take = take.clone();
                scope.spawn(move || work(&mut Jobs(&take)))
            })
            .collect();
        drop(take);
        threads.push(scope.spawn(move || {
            loop {
                let message = match next() {
                    Ok(Some((bytes, input))) => {
                        flight.board(bytes);
                        let (reply, pages) = bounded(1);
                        if give.send((input, reply)).is_err() {
                            return;
                        }
                        Message::Later(pages, bytes)
                    }
                    Ok(None) => Message::End,
                    Err(e) => Message::Failed(e),
                };
                let last = !matches!(message, Message::Later(..));
                // A closed channel means that the writer failed: its error is the one to tell.
                if send.send(message).is_err() || last {
                    return;
                }
            }
        }));
        // Also when `apply` panics, the walker must not wait for ever.
        let landed = Landed(flight);
        let result = drain(&receive, Grouping::Full, flight, &mut apply);
        drop((receive, landed));
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        result
    })
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
            Some(Message::Later(pages, bytes)) => {
                // Whoever was to make them panicked; `pump_made` passes it on.
                let Ok(steps) = pages.recv() else {
                    return Ok(());
                };
                flight.leave(bytes);
                for step in steps {
                    batch.push(step);
                }
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
            Ok(Some(Step::new(page, WalkPosition::Start)))
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
