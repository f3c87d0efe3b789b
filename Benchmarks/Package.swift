// swift-tools-version: 6.2

import PackageDescription

/// Those of the library's package.
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

let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let store = Target.Dependency.product(name: "KVStore", package: "kvsync")

// A package of its own: peers never enter the library's build. Two programs, so that measuring the store alone does
// not compile the network stack.
let package = Package(
  name: "kvsync-benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "kvsync", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
  ],
  targets: [
    .systemLibrary(name: "CLMDBPeer", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
    .systemLibrary(name: "CRocksDB", pkgConfig: "rocksdb", providers: [.apt(["librocksdb-dev"]), .brew(["rocksdb"])]),
    .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"]), .brew(["sqlite"])]),
    .target(name: "BenchmarkSupport", dependencies: [arguments], swiftSettings: settings),
    .executableTarget(
      name: "store-benchmark",
      dependencies: ["BenchmarkSupport", "CLMDBPeer", "CRocksDB", "CSQLite", store, arguments],
      swiftSettings: settings),
    .executableTarget(
      name: "replication-benchmark",
      dependencies: [
        "BenchmarkSupport", store, arguments,
        .product(name: "KVReplicator", package: "kvsync"),
        .product(name: "KVHub", package: "kvsync"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: settings),
  ]
)
