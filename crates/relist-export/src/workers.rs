//! Work shared among cores, with its results in order and few of them held.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

/// The most threads: each holds a chunk of rows of every field.
const MOST: usize = 4;

fn threads(items: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.min(MOST).min(items)
}

/// What a turn of work gives its results to; says whether more are wanted.
pub(crate) type Give<'g, R> = dyn FnMut(R) -> bool + 'g;

/// A result, or the end of a turn.
type Sent<R, E> = Option<Result<R, E>>;

/// Does `work` to each number below `items` on several threads, and gives the results to `take` in
/// order. `begin` makes what one thread keeps from one number to the next; each thread may be
/// `ahead` by so many results.
///
/// # Errors
/// The first of `begin`, `work` or `take`, by the order of the numbers.
pub(crate) fn in_order<S, R: Send, E: Send>(
    (items, ahead): (usize, usize),
    begin: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize, &mut Give<'_, R>) -> Result<(), E> + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads(items);
    if threads < 2 {
        let mut state = begin()?;
        let mut failed = None;
        for item in 0..items {
            work(&mut state, item, &mut |result| {
                if failed.is_none() {
                    failed = take(result).err();
                }
                failed.is_none()
            })?;
            if let Some(error) = failed.take() {
                return Err(error);
            }
        }
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (begin, work) = (&begin, &work);
        let mut receivers: Vec<Receiver<Sent<R, E>>> = Vec::with_capacity(threads);
        for first in 0..threads {
            let (sender, receiver) = sync_channel(ahead);
            receivers.push(receiver);
            scope.spawn(move || turn((first, threads, items), begin, work, &sender));
        }
        for receiver in (0..items).filter_map(|item| receivers.get(item % threads)) {
            loop {
                match receiver.recv() {
                    Ok(Some(result)) => take(result?)?,
                    Ok(None) => break,
                    // The thread panicked, and the scope passes that on.
                    Err(_) => return Ok(()),
                }
            }
        }
        Ok(())
    })
}

/// One thread's share: every so manieth number, until nobody listens or something fails.
fn turn<S, R, E>(
    (first, step, items): (usize, usize, usize),
    begin: &impl Fn() -> Result<S, E>,
    work: &impl Fn(&mut S, usize, &mut Give<'_, R>) -> Result<(), E>,
    sender: &SyncSender<Sent<R, E>>,
) {
    let mut state = match begin() {
        Ok(state) => state,
        Err(error) => {
            let _ = sender.send(Some(Err(error)));
            return;
        }
    };
    for item in (first..items).step_by(step) {
        let mut heard = true;
        let done = work(&mut state, item, &mut |result| {
            heard = sender.send(Some(Ok(result))).is_ok();
            heard
        });
        if let Err(error) = done {
            let _ = sender.send(Some(Err(error)));
            return;
        }
        if !heard || sender.send(None).is_err() {
            return;
        }
    }
}

/// Does `work` to each number below `items` on several threads, whoever is free the next; the
/// results are in order.
///
/// # Errors
/// One of `work`; the others then end with what they have at hand.
pub(crate) fn all<R: Send, E: Send>(
    items: usize,
    work: impl Fn(usize) -> Result<R, E> + Sync + Send,
) -> Result<Vec<R>, E> {
    // Threads that stay: what one leaves behind in memory when it ends is not soon used again.
    let items = (0..items).into_par_iter().with_max_len(1);
    items.map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let mut taken = Vec::new();
        let square = |n: usize| Ok::<_, usize>(n * n);
        in_order(
            (100, 2),
            || Ok::<(), usize>(()),
            |(), n, give| {
                if n != 50 {
                    give(square(n)?);
                }
                Ok(())
            },
            |n| {
                taken.push(n);
                Ok(())
            },
        )
        .unwrap();
        let squares: Vec<usize> = (0..100).map(|n| n * n).collect();
        assert_eq!(all(100, square).unwrap(), squares);
        let most: Vec<usize> = squares.into_iter().filter(|n| *n != 2_500).collect();
        assert_eq!(taken, most);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let fail = |n: usize| if n >= 40 { Err(n) } else { Ok(n) };
        let mut taken = 0;
        let failed = in_order(
            (1_000, 32),
            || Ok::<(), usize>(()),
            |(), n, give| {
                give(fail(n)?);
                Ok(())
            },
            |_| {
                taken += 1;
                Ok(())
            },
        );
        assert_eq!((failed, taken), (Err(40), 40));
        assert!(all(1_000, fail).unwrap_err() >= 40);
        let refused = in_order(
            (1_000, 1),
            || Ok::<(), usize>(()),
            |(), n, give| {
                // Goes on whether anyone listens or not, as far as it can.
                give(n);
                give(n);
                Ok(())
            },
            |n| if n == 7 { Err(n) } else { Ok(()) },
        );
        assert_eq!(refused, Err(7));
    }
}
