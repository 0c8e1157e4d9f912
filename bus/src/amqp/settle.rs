//! The answers to the broker that settle a batch. Pure.
//!
//! Invariant: every message of a batch is either settled exactly once, as its verdict says, or held for a retry.

use std::{collections::BTreeSet, time::Duration};

use crate::Verdict;

/// Answer to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Settles this message as done; with `multiple`, every unsettled message up to it.
    Ack { tag: u64, multiple: bool },
    /// Dead-letters this message.
    Reject { tag: u64 },
}

/// Message of a batch with its verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaggedVerdict {
    pub(super) tag: u64,
    pub(super) verdict: Verdict,
}

/// Returns the answers for the messages that are not to be retried, in the order in which they must be sent.
///
/// `batch` is in order of delivery tags. `held` are the tags that stay unsettled, the batch's own retries included. One `multiple`
/// covers all acks before the first held tag; rejects are sent first, so that it covers acks only.
pub(super) fn answers(batch: &[TaggedVerdict], held: &BTreeSet<u64>) -> Vec<Answer> {
    let barrier = held.first().copied().unwrap_or(u64::MAX);
    let tagged = |wanted| batch.iter().filter(move |message| message.verdict == wanted).map(|message| message.tag);
    let mut answers: Vec<_> = tagged(Verdict::DeadLetter).map(|tag| Answer::Reject { tag }).collect();
    let below = tagged(Verdict::Ack).filter(|tag| *tag < barrier).max();
    answers.extend(below.map(|tag| Answer::Ack { tag, multiple: true }));
    answers.extend(tagged(Verdict::Ack).filter(|tag| *tag > barrier).map(|tag| Answer::Ack { tag, multiple: false }));
    answers
}

/// Returns the pause before a message that was delivered `deliveries` times before goes back to the queue. With the delivery
/// limit of 20 it is retried for 8 minutes.
pub(super) fn retry_pause(deliveries: u64) -> Duration {
    let doublings = u32::try_from(deliveries.min(6)).unwrap_or(6);
    Duration::from_secs(30).min(Duration::from_millis(500) * 2_u32.pow(doublings))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_of_acks_needs_one_answer() {
        let batch = [(5, Verdict::Ack), (6, Verdict::DeadLetter), (7, Verdict::Ack)]
            .map(|(tag, verdict)| TaggedVerdict { tag, verdict });
        let answer = answers(&batch, &BTreeSet::new());
        assert_eq!(answer, [Answer::Reject { tag: 6 }, Answer::Ack { tag: 7, multiple: true }]);
    }

    #[test]
    fn a_message_is_held_ever_longer_up_to_half_a_minute() {
        let seconds: Vec<_> = [0, 1, 2, 5, 6, u64::MAX].map(|n| retry_pause(n).as_secs_f64()).into();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]);
    }

    fn verdicts() -> impl Strategy<Value = Vec<Verdict>> {
        let verdict = prop_oneof![3 => Just(Verdict::Ack), 1 => Just(Verdict::Retry), 1 => Just(Verdict::DeadLetter)];
        proptest::collection::vec(verdict, 0..20)
    }

    proptest! {
        #[test]
        fn every_message_is_settled_once_and_as_its_verdict_says(batches in proptest::collection::vec(verdicts(), 1..5)) {
            let (mut held, mut next) = (BTreeSet::new(), 1);
            for verdicts in batches {
                let batch: Vec<_> = verdicts.into_iter().zip(next..).map(|(verdict, tag)| TaggedVerdict { tag, verdict }).collect();
                next += batch.len() as u64;
                held.extend(batch.iter().filter(|message| message.verdict == Verdict::Retry).map(|message| message.tag));
                // The broker's view: what is not settled yet.
                let mut open: BTreeSet<_> = held.iter().copied().chain(batch.iter().map(|message| message.tag)).collect();
                let of = |tag| batch.iter().find(|message| message.tag == tag).map(|message| message.verdict);
                for answer in answers(&batch, &held) {
                    match answer {
                        Answer::Reject { tag } => {
                            prop_assert_eq!(of(tag), Some(Verdict::DeadLetter));
                            prop_assert!(open.remove(&tag));
                        }
                        Answer::Ack { tag, multiple } => {
                            let acked: Vec<_> = open.iter().copied().filter(|other| *other == tag || multiple && *other < tag).collect();
                            prop_assert!(acked.contains(&tag));
                            for tag in acked {
                                prop_assert_eq!(of(tag), Some(Verdict::Ack));
                                open.remove(&tag);
                            }
                        }
                    }
                }
                prop_assert_eq!(&open, &held);
            }
        }
    }
}
