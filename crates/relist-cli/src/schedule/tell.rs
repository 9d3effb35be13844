//! The state of the jobs in words and as JSON: for `relist status`.

use std::fmt::Write as _;

use relist::value::Timestamp;

use super::state::{JobState, State};
use crate::output::json_string;
use crate::style::{duration, plural};

/// A line a job, and one for a reconcile that is owed.
pub(crate) fn lines(state: &State, now: Timestamp) -> Vec<String> {
    let width = state.jobs.iter().map(|j| j.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut lines: Vec<String> = state
        .jobs
        .iter()
        .map(|job| format!("job {:width$}  {}", job.name, line(job, now)))
        .collect();
    if let Some(since) = state.owed_since {
        lines.push(format!(
            "a reconcile is owed since {since}: until it succeeds, what the feed took away in the \
             meantime may still be here"
        ));
    }
    lines
}

fn line(job: &JobState, now: Timestamp) -> String {
    let ago = |at: Timestamp| format!("{} ago", duration(now.0.saturating_sub(at.0)));
    let mut words = match (job.running, job.began, job.exit, job.ended) {
        (true, Some(began), ..) => format!("began {}, is under way or was cut off", ago(began)),
        (_, _, Some(0), Some(ended)) => format!("done {}", ago(ended)),
        (_, _, Some(exit), Some(ended)) => {
            let times = match job.failures {
                0 | 1 => String::new(),
                n => format!(", {n} times in a row"),
            };
            let why = job.message.as_deref().unwrap_or_default();
            format!("FAILED {} (exit code {exit}{times}): {why}", ago(ended))
        }
        _ => "has not run yet".to_owned(),
    };
    if job.missed > 0 {
        let _ = write!(words, ", missed {}", plural(job.missed, "time", "times"));
    }
    match job.due {
        Some(due) if due > now => {
            let _ = write!(words, "; next in {}", duration(due.0 - now.0));
        }
        Some(due) if !job.running => {
            let _ = write!(words, "; due since {due}");
        }
        _ => {}
    }
    words
}

/// The jobs as a JSON array.
pub(crate) fn json(state: &State) -> String {
    let time = |at: Option<Timestamp>| at.map_or("null".to_owned(), |at| format!("\"{at}\""));
    let jobs = state.jobs.iter().map(|job| {
        format!(
            "{{\"Job\":{},\"Run\":{},\"Running\":{},\"LastBegan\":{},\"LastEnded\":{},\
             \"ExitCode\":{},\"Message\":{},\"Runs\":{},\"Failures\":{},\"Missed\":{},\
             \"Next\":{}}}",
            json_string(&job.name),
            json_string(&job.run),
            job.running,
            time(job.began),
            time(job.ended),
            job.exit.map_or("null".to_owned(), |exit| exit.to_string()),
            job.message
                .as_deref()
                .map_or("null".to_owned(), json_string),
            job.runs,
            job.failures,
            job.missed,
            time(job.due),
        )
    });
    format!("[{}]", jobs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn a_job_in_a_line() {
        let now = Timestamp(1_800_000_000_000_000);
        let ago = |minutes: i64| Some(Timestamp(now.0 - minutes * MINUTE));
        let job = JobState {
            name: "full".to_owned(),
            due: ago(-5),
            ..JobState::default()
        };
        assert_eq!(line(&job, now), "has not run yet; next in 5 min 0 s");
        let running = JobState {
            running: true,
            began: ago(3),
            due: ago(3),
            ..job.clone()
        };
        let under_way = "began 3 min 0 s ago, is under way or was cut off";
        assert_eq!(line(&running, now), under_way);
        let failed = JobState {
            exit: Some(3),
            ended: ago(2),
            failures: 4,
            missed: 1,
            message: Some("Property: the feed is down".to_owned()),
            ..job.clone()
        };
        assert_eq!(
            line(&failed, now),
            "FAILED 2 min 0 s ago (exit code 3, 4 times in a row): Property: the feed is down, \
             missed 1 time; next in 5 min 0 s"
        );
        let mut state = State::default();
        state.owed_since = Some(now);
        state.jobs.push(failed);
        let lines = lines(&state, now);
        assert!(lines[0].starts_with("job full  FAILED"), "{lines:?}");
        assert!(
            lines[1].starts_with("a reconcile is owed since 2027-"),
            "{lines:?}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&state)).unwrap();
        assert_eq!(json[0]["ExitCode"], 3);
        assert_eq!(json[0]["Next"], "2027-01-15T08:05:00Z");
    }
}
