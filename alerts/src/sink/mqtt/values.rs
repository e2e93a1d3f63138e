// SPDX-License-Identifier: Apache-2.0
//! Values that wait to be published: the latest per topic, so that a slow or dead broker costs old values, not memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// More topics are not kept.
const TOPICS: usize = 128;

/// One topic's latest value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
}

#[derive(Debug)]
struct Slot {
    value: Value,
    /// Not published yet.
    waiting: bool,
    /// Published again on every new connection.
    announced: bool,
}

/// Shared between the publisher and the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    slots: Arc<Mutex<Vec<Slot>>>,
    changed: Arc<Notify>,
}

impl Values {
    /// Replaces what waits for the topic; false when there are too many topics.
    pub(super) fn set(&self, value: Value, announced: bool) -> bool {
        let mut slots = self.lock();
        let known = slots.iter().position(|slot| slot.value.topic == value.topic);
        let slot = Slot { value, waiting: true, announced };
        match known {
            Some(index) => slots[index] = slot,
            None if slots.len() < TOPICS => slots.push(slot),
            None => return false,
        }
        drop(slots);
        self.changed.notify_one();
        true
    }

    /// A new connection: announcements wait again.
    pub(super) fn renew(&self) {
        self.lock().iter_mut().filter(|slot| slot.announced).for_each(|slot| slot.waiting = true);
    }

    /// Hands every waiting value out once; a value that is refused is dropped.
    pub(super) fn take(&self, mut publish: impl FnMut(Value) -> Result<(), String>) {
        self.lock().retain_mut(|slot| {
            if !std::mem::take(&mut slot.waiting) {
                return true;
            }
            let value = match slot.announced {
                true => slot.value.clone(),
                false => Value {
                    topic: slot.value.topic.clone(),
                    payload: std::mem::take(&mut slot.value.payload),
                    retain: slot.value.retain,
                },
            };
            publish(value).map_err(|reason| log::warn!("mqtt: {}: {reason}", slot.value.topic)).is_ok()
        });
    }

    /// Until something waits.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(topic: &str, payload: &str) -> Value {
        Value { topic: topic.into(), payload: payload.into(), retain: false }
    }

    fn taken(values: &Values) -> Vec<Value> {
        let mut taken = Vec::new();
        values.take(|value| {
            taken.push(value);
            Ok(())
        });
        taken
    }

    #[test]
    fn the_latest_value_of_a_topic_replaces_the_older_ones() {
        let values = Values::default();
        for payload in ["1", "2", "3"] {
            assert!(values.set(value("a", payload), false));
        }
        assert!(values.set(value("b", "x"), true));
        assert_eq!(taken(&values), [value("a", "3"), value("b", "x")]);
        assert_eq!(taken(&values), []);
        values.renew();
        assert_eq!(taken(&values), [value("b", "x")], "only announcements are repeated");
    }

    #[test]
    fn topics_are_bounded() {
        let values = Values::default();
        assert!((0..TOPICS).all(|index| values.set(value(&index.to_string(), ""), false)));
        assert!(!values.set(value("one more", ""), false));
        assert!(values.set(value("5", "still"), false));
    }
}
