#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cri/checkpoint_files.h"
#include "cri/records.h"

/// The one file of a pod's checkpoint that says what the others are: the records of the pod and its containers as they
/// were, and each container's files with their sizes. The form is that of our database (blob.h).
namespace berth::cri {

inline constexpr const char* kPodCheckpoint = "berth-checkpoint";  ///< the folder in the caller's folder
inline constexpr const char* kPodCheckpointFile = "pod";           ///< the file in it
inline constexpr const char* kPodCheckpointShm = "shm.tar";
inline constexpr std::size_t kMaxCheckpointed = 1024;  ///< containers

struct CheckpointedContainer {
  ContainerRecord record;
  std::vector<FileSize> files;  ///< below its folder
};

struct PodCheckpoint {
  std::string kernel;   ///< uname's release, for people
  std::string machine;  ///< uname's machine: "x86_64"
  std::int64_t created_at_ns = 0;
  SandboxRecord sandbox;
  std::vector<CheckpointedContainer> containers;  ///< the N-th one's files are in the folder "containers/N"
};

[[nodiscard]] std::string encode(const PodCheckpoint& checkpoint);
/// `bytes`: anything. Errors: kCorrupt what is none; kUnsupported a version that this program does not know; kExhausted
/// more than there may be.
[[nodiscard]] Result<PodCheckpoint> decode_pod_checkpoint(std::string_view bytes);

}  // namespace berth::cri
