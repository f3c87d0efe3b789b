// swift-tools-version: 6.2

import PackageDescription

/// The borders that STYLE keeps by the compiler: nothing leaks through an import, nothing unsafe goes unmarked,
/// no warning survives.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]

func target(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// What several test targets share. No product has it.
func testSupport(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: settings)
}

func tests(of name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.init(stringLiteral: name), "TestSupport"] + dependencies,
    swiftSettings: settings)
}

let package = Package(
  name: "kvsync",
  platforms: [.macOS(.v15), .iOS(.v18)],
  products: [
    .library(name: "KVStore", targets: ["KVStore"]),
  ],
  targets: [
    .systemLibrary(
      name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
    .systemLibrary(
      name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]),

    target("LMDB", ["CLMDB"]),
    target("KVLog", ["CXXHash"]),
    target("KVStore", ["KVLog", "LMDB"]),

    testSupport("TestSupport", []),

    tests(of: "LMDB", []),
    tests(of: "KVLog", []),
    tests(of: "KVStore", ["KVLog", "LMDB"]),
  ]
)
