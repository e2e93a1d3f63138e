// SPDX-License-Identifier: Apache-2.0
//! Power quality after the class A methods of IEC 61000-4-30 for one voltage channel.

pub mod result;

pub use result::{
    Aggregate, Cell, Event, EventKind, Flicker, FlickerKind, Frequency, Gap, HarmonicDetail, Interval,
    Measurement, Rvc, Spectrum, Window, ORDERS,
};
