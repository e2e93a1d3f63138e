// SPDX-License-Identifier: Apache-2.0
//! The methods and events a daemon offers, declared once, served over ubus and over a local socket.
