#include <nlohmann/json.hpp>

#include "stream/channels.h"

namespace berth::stream {

std::string outcome_text(const Outcome& outcome, bool as_status) {
  const bool failed = !outcome.failure.empty();
  const std::string exited =
      "command terminated with non-zero exit code: exit status " + std::to_string(outcome.exit_code);
  if (!as_status) {
    if (failed) return outcome.failure;
    return outcome.exit_code == 0 ? std::string() : exited;
  }
  nlohmann::json status = {{"metadata", nlohmann::json::object()}, {"status", "Success"}};
  if (failed) {
    status["status"] = "Failure";
    status["reason"] = "InternalError";
    status["message"] = "Internal error occurred: " + outcome.failure;
    status["details"]["causes"] = {{{"message", outcome.failure}}};
    status["code"] = 500;
  } else if (outcome.exit_code != 0) {
    status["status"] = "Failure";
    // The client takes the code from the cause.
    status["reason"] = "NonZeroExitCode";
    status["message"] = exited;
    status["details"]["causes"] = {{{"reason", "ExitCode"}, {"message", std::to_string(outcome.exit_code)}}};
  }
  return status.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace berth::stream
