//! The steps of the simulated world, and random sequences of them.

use proptest::prelude::*;

use super::WORKERS;

/// A step of the simulated world.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Claim(usize),
    /// A worker reports this many chunks of one of its leases.
    Report(usize, usize, usize),
    /// A worker reports on a lease that may have ended long ago.
    Late(usize, u64),
    Fail(usize, usize, bool),
    Pass(u64),
    Die(usize),
    Return(usize),
    Has(u32, u32),
    /// The info-server restarts.
    Restart,
}

/// Generates sequences of steps.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..WORKERS;
    let step = prop_oneof![
        5 => worker().prop_map(Step::Claim),
        6 => (worker(), 0..3_usize, 0..9_usize).prop_map(|(w, l, n)| Step::Report(w, l, n)),
        1 => (worker(), 0..40_u64).prop_map(|(w, fence)| Step::Late(w, fence)),
        // The last worker never fails: one must finish the work.
        1 => (0..WORKERS - 1, 0..3_usize, any::<bool>()).prop_map(|(w, l, busy)| Step::Fail(w, l, busy)),
        4 => (1..3_000_u64).prop_map(Step::Pass),
        1 => (0..WORKERS - 1).prop_map(Step::Die),
        1 => worker().prop_map(Step::Return),
        1 => (0..40_u32, 0..40_u32).prop_map(|(a, b)| Step::Has(a, b)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..120)
}
