#include "notify.h"

#include <systemd/sd-daemon.h>

#include <cstring>

#include "base/log.h"

namespace berth {

void notify_ready() {
  const int result = ::sd_notify(1, "READY=1");
  if (result < 0) log_warn("the service manager could not be told", {{"err", ::strerrordesc_np(-result)}});
}

}  // namespace berth
