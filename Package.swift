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

/// Third-party packages that only replication needs. A program that embeds `KVStore` alone turns the trait
/// off (`traits: []`) and fetches none of them.
let replication = TargetDependencyCondition.when(traits: ["Replication"])

func nio(_ product: String) -> Target.Dependency {
  .product(name: product, package: "swift-nio", condition: replication)
}

let tls = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl", condition: replication)
let logging = Target.Dependency.product(name: "Logging", package: "swift-log", condition: replication)
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle", condition: replication)
let signals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle", condition: replication)
let arguments = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser", condition: replication)

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
    .library(name: "KVReplicator", targets: ["KVReplicator"]),
    .library(name: "KVHub", targets: ["KVHub", "KVHubEmbedded"]),
    .executable(name: "kvsync", targets: ["kvsync"]),
  ],
  traits: [
    .trait(name: "Replication", description: "The replicator, the hub and the tool; brings the network stack."),
    .default(enabledTraits: ["Replication"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
  ],
  targets: [
    .systemLibrary(
      name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
    .systemLibrary(
      name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]),

    .systemLibrary(name: "CAllocator"),
    .systemLibrary(name: "CPlatform"),

    target("LMDB", ["CLMDB"]),
    target("KVLog", ["CPlatform", "CXXHash"]),
    target("KVStore", ["KVLog", "LMDB", "CPlatform", "CXXHash"]),
    target("KVProtocol", ["KVLog"]),
    target("KVTransport", ["KVProtocol", nio("NIOCore"), nio("NIOPosix"), nio("NIOTLS"), tls]),
    target(
      "KVReplicator",
      [
        "KVStore", "KVProtocol", "KVTransport", "KVLog", "CPlatform", logging, lifecycle, nio("NIOCore"),
        nio("NIOPosix"),
      ]),
    target("KVHub", ["KVProtocol", "KVTransport", "KVLog", logging, lifecycle, nio("NIOCore"), nio("NIOPosix")]),
    target("KVHubEmbedded", ["KVHub", "KVStore", "KVLog"]),
    .executableTarget(
      name: "kvsync",
      dependencies: [
        "CAllocator", "KVStore", "KVLog", "KVReplicator", "KVHub", "KVHubEmbedded", arguments, logging, lifecycle,
        signals,
      ],
      swiftSettings: settings),

    testSupport("TestSupport", []),
    testSupport("HubTestSupport", ["KVHub", "KVProtocol", "KVLog"]),

    .executableTarget(
      name: "StoreProcess", dependencies: ["KVStore", "KVLog", "TestSupport"], path: "Tests/StoreProcess",
      swiftSettings: settings),
    .executableTarget(
      name: "Campaign", dependencies: ["KVStore", "KVLog", "KVReplicator", "TestSupport", "kvsync"],
      path: "Tests/Campaign", swiftSettings: settings),

    tests(of: "LMDB", []),
    tests(of: "KVLog", []),
    tests(of: "KVStore", ["KVLog", "LMDB", "StoreProcess"]),
    tests(of: "KVProtocol", ["KVLog"]),
    tests(of: "KVTransport", ["KVProtocol", "KVLog", nio("NIOCore"), nio("NIOPosix"), tls]),
    tests(
      of: "KVReplicator",
      [
        lifecycle, logging, "KVStore", "KVProtocol", "KVTransport", "KVLog", "KVHub", "KVHubEmbedded", nio("NIOCore"),
        nio("NIOPosix"),
      ]),
    tests(
      of: "KVHub", ["HubTestSupport", "KVProtocol", "KVTransport", "KVLog", nio("NIOCore"), nio("NIOPosix")]),
    tests(of: "KVHubEmbedded", ["HubTestSupport", "KVHub", "KVProtocol", "KVStore", "KVLog"]),
    tests(of: "kvsync", ["Campaign", "HubTestSupport", "KVStore", "KVProtocol", "KVLog"]),
  ]
)
