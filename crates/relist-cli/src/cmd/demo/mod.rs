//! `relist demo`: a simulated MLS, mirrored over HTTP for some weeks, and what can be asked then.
//!
//! The mirror lives by the market's clock: what it observed is dated as the market's days are, so
//! that "as of" goes by them.

mod check;
mod show;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relist::store::{RunReport, Store};
use relist::sync::{Policy, SyncMode, SyncOptions};
use relist::value::Timestamp;
use relist_feed::{Profile, Token, WebApi};
use relist_sim::{Conduct, Market, Options, Server, Size};

use crate::app::App;
use crate::args::{Demo, quoted_path};
use crate::config;
use crate::failure::{Exit, Failure};
use crate::feed;
use crate::progress::Bar;
use crate::style::{bytes, duration, plural, thousands};

/// What is mirrored, in this order. Photos are left out: they are twenty times as many rows.
const RESOURCES: [&str; 4] = ["Property", "Member", "Office", "OpenHouse"];
/// The first line of the configuration that a demo writes: what has it, a demo may replace.
const MARK: &str = "# Written by relist demo.";

/// The market's time, which is the mirror's: microseconds. The engine asks a plain function.
static CLOCK: AtomicI64 = AtomicI64::new(0);

fn market_time() -> Timestamp {
    Timestamp(CLOCK.load(Ordering::Relaxed))
}

/// The market and the mirror of it.
struct Play {
    market: Arc<Mutex<Market>>,
    server: Server,
    api: WebApi,
    store: Store,
    policies: Vec<(&'static str, Policy)>,
    /// What all runs did together.
    total: RunReport,
}

pub(super) fn run(app: &mut App<'_>, args: &Demo) -> Result<Exit, Failure> {
    let begun = app.now();
    let directory = app.path(&args.dir);
    let store_path = prepare(&directory, args.force)?;
    (app.environment.catch_interrupt)(&app.environment.stop);
    let mut play = Play::begin(app, args, &store_path)?;
    write_config(&directory, &play.server.base_url())?;
    writeln!(
        app.out,
        "A simulated MLS of {} listings, {} members and {} offices serves {}",
        thousands(u64::from(args.listings)),
        thousands(u64::from(Size::listings(args.listings).members)),
        thousands(u64::from(Size::listings(args.listings).offices)),
        play.server.base_url()
    )?;
    app.out.flush()?;
    let first_day = market_time();
    play.full_sync(app)?;
    play.days(app, args.days)?;
    let elapsed = app.now().0 - begun.0;
    let snapshot = play.store.snapshot()?;
    let requests = play.api.stats().snapshot().requests;
    writeln!(
        app.out,
        "then {} of the market were played, each followed by an incremental sync: {} field\n\
         changes, {} deletions, {} HTTP requests, {} in all.\n{}\n",
        plural(u64::from(args.days), "day", "days"),
        thousands(play.total.field_changes),
        thousands(play.total.deleted),
        thousands(requests),
        duration(elapsed),
        check::check(&play.lock(), &snapshot)?
    )?;
    let shown = show::Show {
        directory: &args.dir,
        snapshot: &snapshot,
        first_day,
        last_day: market_time(),
        days: args.days,
    };
    shown.all(app)?;
    let size = std::fs::metadata(&store_path).map_or(0, |m| m.len());
    writeln!(
        app.out,
        "All of it is one file: {} ({}).",
        quoted_path(&store_path),
        bytes(size)
    )?;
    shown.next(app)?;
    Ok(Exit::Ok)
}

/// Makes room for the demo's store, and says where it goes.
fn prepare(directory: &Path, force: bool) -> Result<PathBuf, Failure> {
    let store = directory.join(config::STORE);
    let configuration = directory.join(config::FILE);
    let text = std::fs::read_to_string(&configuration).unwrap_or_default();
    let in_the_way = [&store, &configuration].into_iter().find(|p| p.exists());
    if let Some(path) = in_the_way
        && !text.starts_with(MARK)
        && !force
    {
        return Err(Failure::failed(
            format!("{} is there already, and no demo made it", path.display()),
            "--dir DIR puts the demo elsewhere; --force replaces what is there",
        ));
    }
    std::fs::create_dir_all(directory)
        .map_err(|e| Failure::file("cannot create", directory, &e))?;
    for path in [&store, &configuration] {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("cannot replace", path, &e));
            }
            _ => {}
        }
    }
    Ok(store)
}

/// A configuration, so that commands in the demo's directory find its store.
fn write_config(directory: &Path, url: &str) -> Result<(), Failure> {
    let path = directory.join(config::FILE);
    let text = format!(
        "{MARK} The simulated feed ended with it: this store can be asked, not synced.\n\
         provider = \"wfrmls\"\nurl = \"{url}\"\nstore = \"{}\"\n",
        config::STORE
    );
    std::fs::write(&path, text).map_err(|e| Failure::file("cannot write", &path, &e))
}

impl Play {
    /// Starts the market's server and creates the store.
    fn begin(app: &App<'_>, args: &Demo, path: &Path) -> Result<Self, Failure> {
        // Photos change without moving ModificationTimestamp: an incremental mirror of listings
        // cannot see that, and the demo ends by comparing every field.
        let conduct = Conduct {
            photo_changes: 0,
            ..Conduct::default()
        };
        let market = Market::with_conduct(args.seed, Size::listings(args.listings), conduct);
        set_clock(&market);
        let market = Arc::new(Mutex::new(market));
        let secret: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(32)
            .collect();
        let options = Options {
            token: secret.clone(),
            ..Options::default()
        };
        let server = Server::start(Arc::clone(&market), options).map_err(|error| {
            Failure::failed(
                format!("cannot serve on 127.0.0.1: {error}"),
                "the demo needs a free port on the loopback interface",
            )
        })?;
        let profile = Profile::named("wfrmls")?;
        let token = Token::from_env_value("the demo", &secret)?;
        let policies = RESOURCES.map(|name| Ok((name, profile.policy(name)?)));
        let policies = policies.into_iter().collect::<Result<_, Failure>>()?;
        let api = WebApi::new(
            profile,
            &server.base_url(),
            token,
            relist_feed::Limits::default(),
        )?
        .with_stop(Arc::clone(&app.environment.stop));
        let store = Store::create(path, market_time())?;
        if let Some(schema) = feed::schema(app, &api)? {
            let mut txn = store.begin_write(market_time())?;
            txn.define(&schema)?;
            txn.commit()?;
        }
        let total = RunReport::default();
        Ok(Play {
            market,
            server,
            api,
            store,
            policies,
            total,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Market> {
        self.market.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full_sync(&mut self, app: &mut App<'_>) -> Result<(), Failure> {
        let begun = app.now();
        for (name, policy) in self.policies.clone() {
            let bar = Bar::records(app.shows_progress(), None, name);
            let mut progress = |report: &RunReport| {
                if let Some(expected) = report.expected {
                    bar.total(expected);
                }
                bar.at(report.records);
            };
            let report = self.sync(name, &policy, &mut progress)?;
            self.total.records += report.records;
        }
        let elapsed = app.now().0 - begun.0;
        writeln!(
            app.out,
            "like a real one. A full sync over HTTP brought {} records in {};",
            thousands(self.total.records),
            duration(elapsed)
        )?;
        app.out.flush()?;
        Ok(())
    }

    fn days(&mut self, app: &App<'_>, days: u32) -> Result<(), Failure> {
        let bar = Bar::steps(app.shows_progress(), u64::from(days), "market days");
        for day in 1..=days {
            let mut market = self.lock();
            market.advance_days(1);
            set_clock(&market);
            drop(market);
            for (name, policy) in self.policies.clone() {
                let report = self.sync(name, &policy, &mut |_: &RunReport| {})?;
                self.total.field_changes += report.field_changes;
                self.total.deleted += report.deleted;
            }
            bar.at(u64::from(day));
            bar.message(format!(
                "{} field changes",
                thousands(self.total.field_changes)
            ));
        }
        Ok(())
    }

    fn sync(
        &self,
        name: &str,
        policy: &Policy,
        progress: &mut dyn relist::ingest::Progress,
    ) -> Result<RunReport, Failure> {
        let options = SyncOptions {
            mode: SyncMode::Auto,
            max_pages: None,
            confirm: false,
            now: &market_time,
        };
        let mut source = self.api.clone();
        Ok(self
            .store
            .sync(name, &mut source, policy, &options, progress)?)
    }
}

fn set_clock(market: &Market) {
    CLOCK.store(i64::from(market.now()) * 1_000_000, Ordering::Relaxed);
}
