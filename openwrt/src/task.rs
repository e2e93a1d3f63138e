// SPDX-License-Identifier: Apache-2.0
//! Tasks of the one thread a daemon has.

use std::future::Future;
use std::pin::Pin;

use tokio::task::{spawn_local, JoinHandle};

/// A future of any kind behind one type. The runtime's code for tasks comes once per type of future, two kilobytes each:
/// on a small router one type for all is worth an allocation per task.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// Puts a future behind the one type.
pub fn boxed<T>(future: impl Future<Output = T> + 'static) -> Boxed<T> {
    Box::pin(future)
}

/// Starts a task on the current `LocalSet`.
///
/// # Panics
/// Outside of one, as [`spawn_local`].
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    spawn_local(boxed(future))
}
