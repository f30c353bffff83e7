#pragma once
#include <string>
#include <string_view>

#include "base/result.h"
#include "spec/limits.h"

namespace berth::cri {

/// A YAML document as JSON text, so that one reader does for both. Plain scalars are null, true, false and whole
/// numbers as YAML 1.2's core schema has them ("0755" is octal, as in YAML 1.1); every other is a string. One document;
/// keys are scalars; anchors, aliases and tags are refused, since a short text would stand for a long one.
/// `limits`: of the text, its depth, its elements; checked while reading. Errors: kInvalid with the line; kExhausted.
[[nodiscard]] Result<std::string> yaml_to_json(std::string_view yaml, const spec::Limits& limits);

}  // namespace berth::cri
