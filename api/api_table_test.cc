// Holds every .proto file of api/ against the fact tables in tests/data/interfaces: what a table states is in the
// files, and the files hold nothing beyond it. Both sides are brought into the same form, one line per fact, and
// compared as sets.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace pb = google::protobuf;

using Facts = std::map<std::string, std::string>;  // the fact -> where it stands, for messages

std::string SourceDir() {
  const char* dir = std::getenv("BERTH_SOURCE_DIR");
  return dir != nullptr ? dir : ".";
}

// The files of api/ as protoc read them, with a pool to resolve their types.
class Api {
 public:
  Api() {
    std::ifstream in(BERTH_API_DESCRIPTORS, std::ios::binary);
    pb::FileDescriptorSet set;
    if (!in || !set.ParseFromIstream(&in)) return;
    for (const pb::FileDescriptorProto& file : set.file()) {
      const pb::FileDescriptor* built = pool_.BuildFile(file);
      if (built != nullptr) files_.push_back(built);
    }
  }

  const std::vector<const pb::FileDescriptor*>& files() const { return files_; }
  const pb::FileDescriptor* File(const std::string& name) const { return pool_.FindFileByName(name); }

 private:
  pb::DescriptorPool pool_;
  std::vector<const pb::FileDescriptor*> files_;
};

const Api& TheApi() {
  static const Api api;
  return api;
}

// Our stand-ins under the name of what they stand for.
std::string Canonical(std::string name) {
  constexpr std::string_view kOurs = "berth.wkt.";
  if (name.starts_with(kOurs)) name = "google.protobuf." + name.substr(kOurs.size());
  return name;
}

// ---- The .proto side.

std::string BareType(const pb::FieldDescriptor& field) {
  if (field.message_type() != nullptr) return Canonical(field.message_type()->full_name());
  if (field.enum_type() != nullptr) return Canonical(field.enum_type()->full_name());
  return field.type_name();
}

std::string TypeOf(const pb::FieldDescriptor& field) {
  std::string type;
  if (field.is_map()) {
    type =
        "map<" + BareType(*field.message_type()->map_key()) + ", " + BareType(*field.message_type()->map_value()) + ">";
  } else {
    type = (field.is_repeated() ? "repeated " : "") + BareType(field);
  }
  if (field.has_optional_keyword()) type = "optional " + type;
  if (field.real_containing_oneof() != nullptr) type = "oneof " + field.real_containing_oneof()->name() + " " + type;
  if (field.options().deprecated()) type += " deprecated";
  return type;
}

std::string Line(const std::string& kind, const std::string& owner, const std::string& name, const std::string& number,
                 const std::string& type) {
  return kind + " " + owner + " " + name + " = " + number + (type.empty() ? "" : " : " + type);
}

// <sched.h> has NRI's SCHED_OTHER and its like as macros, so ours have LINUX_ before them. The wire has numbers alone.
std::string CanonicalValue(const std::string& name) {
  constexpr std::string_view kOurs = "LINUX_";
  return name.starts_with("LINUX_SCHED_") ? name.substr(kOurs.size()) : name;
}

void AddEnum(const pb::EnumDescriptor& e, const std::string& where, Facts& facts) {
  for (int i = 0; i < e.value_count(); ++i) {
    facts[Line("enum", e.full_name(), CanonicalValue(e.value(i)->name()), std::to_string(e.value(i)->number()), "")] =
        where;
  }
}

void AddMessage(const pb::Descriptor& m, const std::string& where, Facts& facts) {
  if (m.options().map_entry()) return;
  facts["message " + m.full_name()] = where;
  for (int i = 0; i < m.field_count(); ++i) {
    const pb::FieldDescriptor& f = *m.field(i);
    facts[Line("field", m.full_name(), f.name(), std::to_string(f.number()), TypeOf(f))] = where;
  }
  for (int i = 0; i < m.extension_count(); ++i) facts["extension " + m.extension(i)->full_name()] = where;
  for (int i = 0; i < m.enum_type_count(); ++i) AddEnum(*m.enum_type(i), where, facts);
  for (int i = 0; i < m.nested_type_count(); ++i) AddMessage(*m.nested_type(i), where, facts);
}

void AddFile(const pb::FileDescriptor& file, Facts& facts) {
  const std::string& where = file.name();
  for (int i = 0; i < file.service_count(); ++i) {
    const pb::ServiceDescriptor& s = *file.service(i);
    for (int j = 0; j < s.method_count(); ++j) {
      const pb::MethodDescriptor& m = *s.method(j);
      facts[Line("rpc", s.full_name(), m.name(),
                 (m.client_streaming() ? "stream " : "") + Canonical(m.input_type()->full_name()),
                 (m.server_streaming() ? "stream " : "") + Canonical(m.output_type()->full_name()))] = where;
    }
  }
  for (int i = 0; i < file.extension_count(); ++i) facts["extension " + file.extension(i)->full_name()] = where;
  for (int i = 0; i < file.enum_type_count(); ++i) AddEnum(*file.enum_type(i), where, facts);
  for (int i = 0; i < file.message_type_count(); ++i) AddMessage(*file.message_type(i), where, facts);
}

// ---- The table side.

// A type of the table with full names: one without a package belongs to the package of the row's file.
std::string Qualify(const std::string& type, const std::string& package) {
  static const std::set<std::string> kScalars = {"double",   "float",    "int32",  "int64",   "uint32",
                                                 "uint64",   "sint32",   "sint64", "fixed32", "fixed64",
                                                 "sfixed32", "sfixed64", "bool",   "string",  "bytes"};
  for (const char* word : {"repeated ", "stream ", "optional "}) {
    if (type.starts_with(word)) return word + Qualify(type.substr(std::string_view(word).size()), package);
  }
  constexpr std::string_view kDeprecated = " deprecated";
  if (type.ends_with(kDeprecated)) {
    return Qualify(type.substr(0, type.size() - kDeprecated.size()), package) + std::string(kDeprecated);
  }
  if (type.starts_with("map<")) {
    const auto comma = type.find(", ");
    return "map<" + type.substr(4, comma - 4) + ", " +
           Qualify(type.substr(comma + 2, type.size() - comma - 3), package) + ">";
  }
  if (kScalars.contains(type)) return type;
  // Lower case at the start: a package. Upper case: a message of this one, perhaps nested.
  return type[0] >= 'a' && type[0] <= 'z' ? type : package + "." + type;
}

struct Table {
  Facts facts;
  std::map<std::string, std::string> packages;  // file that has rows -> package
  int rpcs = 0;
};

// `file`, if not empty, is what the whole table describes; otherwise its `file` rows say.
Table ReadTable(const std::string& name, std::string file, std::string package) {
  Table table;
  const bool one_file = !file.empty();
  std::ifstream in(SourceDir() + "/tests/data/interfaces/" + name);
  EXPECT_TRUE(in) << "cannot read " << name;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (number == 1 || line.empty()) continue;
    std::vector<std::string> cell;
    std::istringstream cells(line);
    for (std::string text; std::getline(cells, text, '\t');) cell.push_back(text);
    cell.resize(5);
    const std::string where = name + ":" + std::to_string(number);
    if (cell[0] == "file" && one_file) continue;
    if (cell[0] == "file") {
      package = cell[1];
      file = "containerd/" + cell[2];
      continue;
    }
    table.packages[file] = package;
    const std::string owner = package + "." + cell[1];
    if (cell[0] == "rpc") {
      ++table.rpcs;
      table.facts[Line("rpc", cell[1], cell[2], Qualify(cell[3], package), Qualify(cell[4], package))] = where;
    } else if (cell[0] == "enum") {
      table.facts[Line("enum", owner, cell[2], cell[3], "")] = where;
    } else if (cell[0] == "message") {
      table.facts["message " + owner] = where;
    } else if (cell[0] == "field") {
      table.facts["message " + owner] = where;
      table.facts[Line("field", owner, cell[2], cell[3], Qualify(cell[4], package))] = where;
    } else {
      ADD_FAILURE() << where << ": unknown kind of row: " << line;
    }
  }
  return table;
}

void Compare(const Table& table) {
  Facts ours;
  for (const auto& [file, package] : table.packages) {
    const pb::FileDescriptor* descriptor = TheApi().File(file);
    if (descriptor == nullptr) {
      ADD_FAILURE() << "api/" << file << " is missing";
      continue;
    }
    EXPECT_EQ(descriptor->package(), package) << file;
    AddFile(*descriptor, ours);
  }
  for (const auto& [fact, where] : table.facts) {
    EXPECT_TRUE(ours.contains(fact)) << where << ": not in the .proto files: " << fact;
  }
  for (const auto& [fact, where] : ours) {
    EXPECT_TRUE(table.facts.contains(fact)) << "api/" << where << ": not in the table: " << fact;
  }
}

bool UnderFolder(const std::string& name, std::string_view folder) {
  return name.starts_with(folder);
}

// ---- Tests.

TEST(ApiTable, Cri) {
  const Table table = ReadTable("cri-v1.tsv", "cri/runtime/v1/api.proto", "runtime.v1");
  EXPECT_EQ(table.rpcs, 43);
  EXPECT_GT(table.facts.size(), 600u);
  Compare(table);
}

TEST(ApiTable, Shim) {
  const Table table = ReadTable("shim-v2.tsv", "", "");
  EXPECT_EQ(table.rpcs, 44);
  EXPECT_GT(table.facts.size(), 300u);
  Compare(table);
}

TEST(ApiTable, Nri) {
  const Table table = ReadTable("nri.tsv", "nri/v1alpha1/api.proto", "nri.pkg.api.v1alpha1");
  EXPECT_EQ(table.rpcs, 21);
  EXPECT_GT(table.facts.size(), 300u);
  Compare(table);
}

TEST(ApiTable, EveryFileBelongsToATableOrIsBerths) {
  const Table shim = ReadTable("shim-v2.tsv", "", "");
  ASSERT_FALSE(TheApi().files().empty()) << BERTH_API_DESCRIPTORS;
  for (const pb::FileDescriptor* file : TheApi().files()) {
    EXPECT_TRUE(UnderFolder(file->name(), "berth/") || file->name() == "cri/runtime/v1/api.proto" ||
                file->name() == "nri/v1alpha1/api.proto" || shim.packages.contains(file->name()))
        << file->name();
  }
}

// What berth-shim links must be lite, and must not draw the full runtime in through an import.
TEST(ApiTable, ShimFilesAreLite) {
  for (const pb::FileDescriptor* file : TheApi().files()) {
    if (UnderFolder(file->name(), "cri/")) continue;
    EXPECT_EQ(file->options().optimize_for(), pb::FileOptions::LITE_RUNTIME) << file->name();
    for (int i = 0; i < file->dependency_count(); ++i) {
      EXPECT_FALSE(UnderFolder(file->dependency(i)->name(), "google/")) << file->name();
    }
  }
}

// The stand-ins have the fields of what they stand for.
TEST(ApiTable, StandInsHaveTheFieldsOfTheWellKnownTypes) {
  const std::map<std::string, std::string> want = {
      {"Any", "1 type_url string, 2 value bytes, "},
      {"Timestamp", "1 seconds int64, 2 nanos int32, "},
      {"Duration", "1 seconds int64, 2 nanos int32, "},
      {"Empty", ""},
  };
  const pb::FileDescriptor* file = TheApi().File("berth/wkt/wkt.proto");
  ASSERT_NE(file, nullptr);
  std::map<std::string, std::string> got;
  for (int i = 0; i < file->message_type_count(); ++i) {
    const pb::Descriptor& m = *file->message_type(i);
    std::string& text = got[m.name()];
    for (int j = 0; j < m.field_count(); ++j) {
      text += std::to_string(m.field(j)->number()) + " " + m.field(j)->name() + " " + TypeOf(*m.field(j)) + ", ";
    }
  }
  EXPECT_EQ(got, want);
}

// Every service, call, message and enum says in a comment what it is.
template <typename Descriptor>
void ExpectComment(const Descriptor& d) {
  pb::SourceLocation location;
  EXPECT_TRUE(d.GetSourceLocation(&location) && !location.leading_comments.empty())
      << d.full_name() << " has no comment";
}

void ExpectComments(const pb::Descriptor& m) {
  if (m.options().map_entry()) return;
  ExpectComment(m);
  for (int i = 0; i < m.enum_type_count(); ++i) ExpectComment(*m.enum_type(i));
  for (int i = 0; i < m.nested_type_count(); ++i) ExpectComments(*m.nested_type(i));
}

TEST(ApiTable, EverythingHasAComment) {
  for (const pb::FileDescriptor* file : TheApi().files()) {
    for (int i = 0; i < file->service_count(); ++i) {
      ExpectComment(*file->service(i));
      for (int j = 0; j < file->service(i)->method_count(); ++j) ExpectComment(*file->service(i)->method(j));
    }
    for (int i = 0; i < file->enum_type_count(); ++i) ExpectComment(*file->enum_type(i));
    for (int i = 0; i < file->message_type_count(); ++i) ExpectComments(*file->message_type(i));
  }
}

}  // namespace
