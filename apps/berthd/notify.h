#pragma once

namespace berth {

/// Tells the service manager that start-up is over: READY=1 to the socket in NOTIFY_SOCKET, if there is one.
/// Failures are logged and otherwise without effect. Source: sd_notify(3).
void notify_ready();

}  // namespace berth
