// SPDX-License-Identifier: Apache-2.0
//! Keeps the air as it is wanted: looks, plans, carries out, and looks again whenever something changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::ubus;
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, sleep_until, timeout};

use super::air::{mac_address, Radio, Sight};
use super::plan::{plan, Plan, Wanted, Wish};
use crate::config::ManagedAp;
use crate::rule::Moment;

/// Events of the air come in bursts.
const SETTLE: Duration = Duration::from_millis(100);
/// The air is looked at this often even if nothing is heard of it.
const PATROL: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What is wanted on the air.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Access points, what is wanted of them, and until when their clients are spared.
    pub aps: Vec<(ManagedAp, Wish, Moment)>,
    /// Nothing is switched now, for this reason.
    pub paused: Option<String>,
}

/// What was done last, for status.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What is on the air.
    pub sight: Sight,
    /// What has to wait and why.
    pub held: Vec<(String, String)>,
    /// Steps carried out since the start.
    pub steps: u32,
    /// Steps that failed since the start.
    pub failures: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// The task that keeps the air, seen from outside.
#[derive(Debug)]
pub struct Switch {
    wishes: RefCell<Wishes>,
    wished: Notify,
    moved: Notify,
    invalidated: Cell<bool>,
    cause: Cell<Option<Instant>>,
    /// How often something was wished, and which of that hostapd has been told.
    wish_count: Cell<u32>,
    told_count: Cell<u32>,
    told: Notify,
    radio: Mutex<Radio>,
    netifd: ubus::Client,
    origin: Instant,
    report: RefCell<Report>,
}

impl Switch {
    /// Nothing is wished for yet; `origin` is the beginning of the daemon's time.
    #[must_use]
    pub fn new(radio: Radio, netifd: ubus::Client, origin: Instant) -> Rc<Self> {
        Rc::new(Self {
            wishes: RefCell::default(),
            wished: Notify::new(),
            moved: Notify::new(),
            invalidated: Cell::new(true),
            cause: Cell::new(None),
            wish_count: Cell::new(0),
            told_count: Cell::new(0),
            told: Notify::new(),
            radio: Mutex::new(radio),
            netifd,
            origin,
            report: RefCell::default(),
        })
    }

    /// New wishes, to be fulfilled at once; `cause` is when the event behind them was read.
    pub fn wish(&self, wishes: Wishes, cause: Option<Instant>) {
        *self.wishes.borrow_mut() = wishes;
        if cause.is_some() {
            self.cause.set(cause);
        }
        self.wish_count.set(self.wish_count.get().wrapping_add(1));
        self.wished.notify_one();
    }

    /// Waits until hostapd has been told what was wished last.
    pub async fn carried_out(&self) {
        while self.told_count.get() != self.wish_count.get() {
            self.told.notified().await;
        }
    }

    /// Something moved on the air or in netifd.
    pub fn moved(&self) {
        self.invalidated.set(true);
        self.moved.notify_one();
    }

    /// What was seen and done last.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Whether a device that came, went or changed may be that of an access point. Where a section's device is not
    /// known, only one that is new can be it: an uplink that loses its carrier costs no look at the air.
    #[must_use]
    pub fn may_concern(&self, name: &str, new: bool) -> bool {
        let report = self.report.borrow();
        let sight = &report.sight;
        sight.air.slots.iter().any(|slot| slot.ifname == name)
            || sight
                .missing
                .iter()
                .any(|missing| missing.ifname.as_deref().map_or(new, |known| known == name))
    }

    /// What is wanted at the moment.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        self.wishes.borrow().clone()
    }

    /// MAC address of a section's device, where it is known.
    #[must_use]
    pub fn mac_address(&self, section: &str) -> Option<[u8; 6]> {
        let report = self.report.borrow();
        let slot = report.sight.air.slots.iter().find(|slot| slot.section == section)?;
        mac_address(&slot.ifname)
    }

    /// Looks and plans without doing anything.
    pub async fn rehearse(&self) -> (Plan, Option<String>) {
        let wishes = self.wishes.borrow().clone();
        let mut radio = self.radio.lock().await;
        let (_, plan) = self.look_and_plan(&mut radio, &wishes).await;
        (plan, wishes.paused)
    }

    /// Looks once, so that devices and addresses are known.
    pub async fn look(&self) {
        let wishes = self.wishes.borrow().clone();
        let mut radio = self.radio.lock().await;
        let (sight, _) = self.look_and_plan(&mut radio, &wishes).await;
        self.report.borrow_mut().sight = sight;
    }

    /// Keeps the air for ever.
    pub async fn run(self: Rc<Self>) {
        let mut retry = FIRST_RETRY;
        loop {
            let (failed, again) = self.pass().await;
            retry = if failed { (retry * 2).min(LAST_RETRY) } else { FIRST_RETRY };
            let wait = if failed { retry / 2 } else { PATROL };
            let wait = again.map_or(wait, |again| wait.min(again));
            let patrol = tokio::time::Instant::now() + wait;
            tokio::select! {
                biased;
                () = self.wished.notified() => {}
                () = self.moved.notified() => {
                    // Until the burst is over, unless something is wished for meanwhile.
                    let _ = timeout(SETTLE, self.wished.notified()).await;
                }
                () = sleep_until(patrol) => {}
            }
        }
    }

    /// Gives every access point back to its configuration, in the time there is.
    pub async fn restore(&self, within: Duration) {
        let mut wishes = self.wishes.borrow().clone();
        for (_, wish, grace) in &mut wishes.aps {
            *wish = Wish::Configured;
            *grace = Moment::ZERO;
        }
        wishes.paused = None;
        *self.wishes.borrow_mut() = wishes;
        let restore = async {
            let (failed, _) = self.pass().await;
            if failed {
                sleep(SETTLE).await;
                self.pass().await;
            }
        };
        if timeout(within, restore).await.is_err() {
            log::warn!("hostapd did not take the configured state back in time");
        }
    }

    /// Looks, plans, carries out. Gives whether something failed and when to look again.
    async fn pass(&self) -> (bool, Option<Duration>) {
        let count = self.wish_count.get();
        let wishes = self.wishes.borrow().clone();
        let cause = self.cause.take();
        if wishes.aps.is_empty() {
            self.report.borrow_mut().sight = Sight::default();
            self.tell(count);
            return (false, None);
        }
        let mut radio = self.radio.lock().await;
        // An event that has already decided what is wanted does not wait for another look: events have kept the last
        // one current, and a look follows at once.
        let known = cause.and_then(|_| self.known_sight(&wishes));
        let hurried = known.is_some();
        let (sight, plan) = match known {
            Some(sight) => {
                let plan = self.plan(&wishes, &sight);
                (sight, plan)
            }
            None => self.look_and_plan(&mut radio, &wishes).await,
        };
        let paused = wishes.paused.is_some();
        // hostapd first, words about it later: a log can be slow.
        let mut outcomes = Vec::new();
        if !paused {
            for step in &plan.steps {
                let begin = Instant::now();
                outcomes.push((step, begin, radio.carry_out(step).await));
            }
        }
        let mut failed = false;
        for (step, begin, outcome) in outcomes {
            let mut report = self.report.borrow_mut();
            match outcome {
                Ok(confirmed) => {
                    report.steps = report.steps.saturating_add(1);
                    let since = cause.map_or_else(String::new, |cause| {
                        format!(", {:.1} ms after the event", (confirmed - cause).as_secs_f64() * 1e3)
                    });
                    log::info!("{step} ({:.1} ms{since})", (confirmed - begin).as_secs_f64() * 1e3);
                }
                Err(error) => {
                    failed = true;
                    report.failures = report.failures.saturating_add(1);
                    openwrt::log_repeated!(log::Level::Warn, "{step}: {error}");
                    report.last_error = Some(format!("{step}: {error}"));
                }
            }
        }
        self.tell(count);
        let acted = !paused && !plan.steps.is_empty();
        let sight = if acted { self.look_and_plan(&mut radio, &wishes).await.0 } else { sight };
        let mut report = self.report.borrow_mut();
        report.sight = sight;
        if let Some(trouble) = report.sight.trouble.take() {
            failed = true;
            openwrt::log_repeated!(log::Level::Warn, "the air cannot be looked at: {trouble}");
            report.last_error = Some(trouble);
        } else if !failed {
            report.last_error = None;
        }
        report.held = plan.held.iter().map(|held| (held.section.clone(), held.reason.clone())).collect();
        let now = self.origin.elapsed();
        let again =
            plan.held.iter().filter_map(|held| held.until).min().map(|until| until.saturating_sub(now));
        (failed, if hurried { Some(Duration::ZERO) } else { again })
    }

    fn tell(&self, count: u32) {
        self.told_count.set(count);
        self.told.notify_waiters();
    }

    async fn look_and_plan(&self, radio: &mut Radio, wishes: &Wishes) -> (Sight, Plan) {
        if self.invalidated.take() {
            radio.invalidate();
        }
        let aps: Vec<ManagedAp> = wishes.aps.iter().map(|(managed, ..)| managed.clone()).collect();
        let sight = radio.look(&aps, &self.netifd).await;
        let plan = self.plan(wishes, &sight);
        (sight, plan)
    }

    /// What was seen last, as long as nothing has moved since and it is about the same access points.
    fn known_sight(&self, wishes: &Wishes) -> Option<Sight> {
        if self.invalidated.get() {
            return None;
        }
        let sight = self.report.borrow().sight.clone();
        let known = |section: &str| {
            sight.air.slots.iter().any(|slot| slot.section == section)
                || sight.missing.iter().any(|missing| missing.section == section)
        };
        wishes.aps.iter().all(|(managed, ..)| known(&managed.ap.section)).then_some(sight)
    }

    fn plan(&self, wishes: &Wishes, sight: &Sight) -> Plan {
        let wanted: Vec<Wanted<'_>> = wishes
            .aps
            .iter()
            .map(|(managed, wish, grace)| Wanted { ap: &managed.ap, wish: wish.clone(), grace_until: *grace })
            .collect();
        plan(&wanted, &sight.air, self.origin.elapsed())
    }
}
