// SPDX-License-Identifier: Apache-2.0
//! The genuine libuci, through raw calls: `rust-uci` can neither iterate nor read lists.

use std::ffi::{c_char, CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use libuci_sys::{
    uci_alloc_context, uci_context, uci_element, uci_free_context, uci_list, uci_load, uci_option,
    uci_option_type_UCI_TYPE_STRING, uci_package, uci_section, uci_set_confdir, uci_set_savedir,
};

use crate::{OptionTree, SectionTree, Tree, PACKAGE};

/// Loads [`PACKAGE`] with its delta, as `uci show` would.
///
/// # Errors
/// libuci's error number, `UCI_ERR_PARSE` and so on.
pub fn load(config_dir: &Path, state_dir: &Path) -> Result<Tree, i32> {
    let context = Context::new(config_dir, state_dir)?;
    let name = CString::new(PACKAGE).map_err(|_| -1)?;
    let mut package: *mut uci_package = ptr::null_mut();
    // SAFETY: the context is alive, the name ends with NUL and outlives the call, which copies it, and
    // `package` is a place for one pointer.
    let error = unsafe { uci_load(context.0, name.as_ptr(), &mut package) };
    if error != 0 {
        return Err(error);
    }
    // SAFETY: uci_load succeeded, so `package` points to a package that the context owns; the context is
    // not used for anything else until `tree` has copied it and is freed after that.
    Ok(unsafe { tree(package) })
}

struct Context(*mut uci_context);

impl Context {
    fn new(config_dir: &Path, state_dir: &Path) -> Result<Self, i32> {
        let config_dir = CString::new(config_dir.as_os_str().as_bytes()).map_err(|_| -1)?;
        let state_dir = CString::new(state_dir.as_os_str().as_bytes()).map_err(|_| -1)?;
        // SAFETY: takes nothing; returns a context that is ours to free, or NULL.
        let context = unsafe { uci_alloc_context() };
        if context.is_null() {
            return Err(-1);
        }
        let context = Context(context);
        // SAFETY: the context is alive; both functions copy the directory's name.
        let errors = unsafe {
            [uci_set_confdir(context.0, config_dir.as_ptr()), uci_set_savedir(context.0, state_dir.as_ptr())]
        };
        errors.into_iter().find(|error| *error != 0).map_or(Ok(context), Err)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the pointer came from uci_alloc_context, is freed only here, and nothing borrowed from it outlives it.
        unsafe { uci_free_context(self.0) }
    }
}

/// # Safety
/// `package` points to a live package that nothing changes meanwhile.
unsafe fn tree(package: *const uci_package) -> Tree {
    // SAFETY: the package is live by contract; its lists hold sections, whose lists hold options, whose
    // union holds a list or a string as the type says (uci.h; there are
    // just these two, and the binding exports the constant of one). An element is the first field of each of
    // them, and the list node the first field of an element, so a node's address is the element's.
    unsafe {
        let section = |section: *const uci_section| SectionTree {
            name: bytes((*section).e.name),
            kind: bytes((*section).type_),
            anonymous: (*section).anonymous,
            options: nodes(&(*section).options).map(|node| option(node.cast())).collect(),
        };
        Tree {
            name: String::from_utf8_lossy(&bytes((*package).e.name)).into_owned(),
            sections: nodes(&(*package).sections).map(|node| section(node.cast())).collect(),
        }
    }
}

/// # Safety
/// `option` points to a live option.
unsafe fn option(option: *const uci_option) -> OptionTree {
    // SAFETY: as in `tree`.
    unsafe {
        let list = (*option).type_ != uci_option_type_UCI_TYPE_STRING;
        let values = if list {
            nodes(&(*option).v.list).map(|node| bytes((*node.cast::<uci_element>()).name)).collect()
        } else {
            vec![bytes((*option).v.string)]
        };
        OptionTree { name: bytes((*option).e.name), list, values }
    }
}

/// The nodes of a circular list, without its head.
///
/// # Safety
/// `head` is the head of a live list that nothing changes while the iterator is in use.
unsafe fn nodes(head: *const uci_list) -> impl Iterator<Item = *const uci_list> {
    // SAFETY: every `next` of a live list points to a live node, the last one to the head.
    let next = move |node: *const uci_list| unsafe { (*node).next.cast_const() };
    std::iter::successors(Some(next(head)), move |node| Some(next(*node)))
        .take_while(move |node| *node != head)
}

/// # Safety
/// `string` is NULL or points to a string that ends with NUL.
unsafe fn bytes(string: *const c_char) -> Vec<u8> {
    if string.is_null() {
        return b"(null)".to_vec();
    }
    // SAFETY: not NULL, and ends with NUL by contract.
    unsafe { CStr::from_ptr(string) }.to_bytes().to_vec()
}
