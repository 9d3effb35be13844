//! `relist compact`: unused space of the store's file, given back.

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::{Datum, Member, right};
use crate::style::thousands;

const MEMBERS: &[Member] = &[right("Bytes", "BYTES"), right("BytesGiven", "GIVEN BACK")];

pub(super) fn run(app: &mut App<'_>) -> Result<Exit, Failure> {
    let mut store = app.open_writer()?;
    let given = store.compact()?;
    let size = std::fs::metadata(store.path()).map_or(0, |file| file.len());
    if app.is_text() {
        let (size, given) = (thousands(size), thousands(given));
        writeln!(app.out, "{size} bytes, {given} given back")?;
        return Ok(Exit::Ok);
    }
    let mut rows = app.rows(MEMBERS)?;
    rows.row(&[Datum::count(size), Datum::count(given)])?;
    rows.finish()?;
    Ok(Exit::Ok)
}
