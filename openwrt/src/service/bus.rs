// SPDX-License-Identifier: Apache-2.0
//! The same methods and events as a ubus object.

use std::rc::Rc;

use serde_json::{json, Value};

use super::events::Subscription;
use super::{Arg, ArgKind, CallError, Table};
use crate::ubus::{ArgType, Client, Failure, Object, ObjectHandle, Status};

/// rpcd and uhttpd add the session of the LuCI user to every call they pass on.
const SESSION: &str = "ubus_rpc_session";

/// Offers the object and notifies its subscribers of every event, until dropped.
pub(super) async fn serve(client: Client, table: Rc<Table>) {
    let published = client.publish(object(&table));
    loop {
        // The queue ends when a burst overran it; what comes after that burst matters again.
        let Subscription { mut queue, .. } = table.events.subscribe_bus();
        while let Some(event) = queue.recv().await {
            notify(&published, &event.name, &event.data);
        }
    }
}

fn object(table: &Rc<Table>) -> Object {
    table.signatures().fold(Object::new(table.object), |object, (name, args)| {
        let signature: Vec<_> = args.iter().map(|arg| (arg.name, arg_type(arg))).collect();
        let table = Rc::clone(table);
        object.method(name, &signature, move |mut request| {
            let table = Rc::clone(&table);
            async move {
                if let Value::Object(args) = &mut request.args {
                    args.remove(SESSION);
                }
                table.call(name, request.args).await.map_err(|error| failure(&error))
            }
        })
    })
}

fn arg_type(arg: &Arg) -> ArgType {
    match arg.kind {
        ArgKind::Text => ArgType::String,
        ArgKind::Integer => ArgType::Int32,
        ArgKind::Number => ArgType::Double,
        ArgKind::Flag => ArgType::Bool,
        ArgKind::Object => ArgType::Table,
        ArgKind::List => ArgType::Array,
    }
}

/// The status for programs; with it, for those who look, what the socket would have said.
fn failure(error: &CallError) -> Failure {
    Failure {
        status: Status::from_wire(error.code.ubus_status()),
        detail: Some(json!({ "error": { "code": error.code, "message": error.message } })),
    }
}

fn notify(published: &ObjectHandle, name: &str, data: &Value) {
    // A notification carries a table.
    let wrapped = (!data.is_object()).then(|| json!({ "data": data }));
    if let Err(error) = published.notify(name, wrapped.as_ref().unwrap_or(data)) {
        log::debug!("ubus notification {name}: {error}");
    }
}
