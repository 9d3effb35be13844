//! `relist demo`.
use crate::app::App;
use crate::args::Demo;
use crate::failure::{Exit, Failure};
pub(super) fn run(_app: &mut App<'_>, _args: &Demo) -> Result<Exit, Failure> { Ok(Exit::Ok) }
