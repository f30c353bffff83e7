#include <cstdio>

#include "client.h"
#include "commands.h"

namespace berth::cli {

Result<int> fsck(Client& client, bool repair) {
  constexpr std::chrono::minutes kPatience{5};
  ::berth::v1::FsckRequest request;
  request.set_repair(repair);
  BERTH_ASSIGN(const auto reply,
               client.call(client.operators(), &::berth::v1::Operator::Stub::Fsck, request, kPatience), "fsck");
  int left = 0;
  for (const auto& finding : reply.findings()) {
    if (!finding.removed()) ++left;
    std::printf("%-8s %s: %s\n", finding.kind().c_str(), finding.object().c_str(),
                finding.removed()         ? "removed"
                : finding.error().empty() ? "nothing owns it"
                                          : finding.error().c_str());
  }
  if (reply.findings_size() == 0) {
    std::puts("everything has an owner");
  } else if (left > 0 && !repair) {
    std::puts("berth fsck --repair removes what nothing owns");
  }
  return left > 0 ? 1 : 0;
}

}  // namespace berth::cli
