// A conflict policy on the command line: POLICY for all keys, or PREFIX=POLICY for those that begin with certain bytes.

import ArgumentParser
import KVStore

struct PolicyArgument: ExpressibleByArgument {
  private enum Name: String, CaseIterable {
    case lastWriterWins, localWins, remoteWins, manual

    var policy: ConflictPolicy {
      switch self {
      case .lastWriterWins: .lastWriterWins
      case .localWins: .localWins
      case .remoteWins: .remoteWins
      case .manual: .manual
      }
    }
  }

  /// nil: all keys that no prefix is given for.
  let prefix: [UInt8]?
  let policy: ConflictPolicy

  init?(argument: String) {
    // A prefix may have an equals sign, a policy has none.
    let name: Substring
    if let sign = argument.lastIndex(of: "=") {
      name = argument[argument.index(after: sign)...]
      let bytes = ArgumentBytes(argument: String(argument[..<sign])).bytes
      guard !bytes.isEmpty else { return nil }
      prefix = bytes
    } else {
      name = argument[...]
      prefix = nil
    }
    guard let policy = Name(rawValue: String(name)) else { return nil }
    self.policy = policy.policy
  }

  static let allValueStrings = Name.allCases.map(\.rawValue)

  /// What is wrong with the policies together; nil: nothing.
  static func check(_ arguments: [PolicyArgument]) -> ValidationError? {
    let prefixes = arguments.map(\.prefix)
    guard Set(prefixes).count == prefixes.count else {
      return ValidationError("--policy is given twice for the same keys.")
    }
    return nil
  }

  static func policy(_ arguments: [PolicyArgument]) -> ConflictPolicy {
    var prefixes: [[UInt8]: ConflictPolicy] = [:]
    var otherwise = ConflictPolicy.lastWriterWins
    for argument in arguments {
      if let prefix = argument.prefix { prefixes[prefix] = argument.policy } else { otherwise = argument.policy }
    }
    return prefixes.isEmpty ? otherwise : .prefixes(prefixes, otherwise: otherwise)
  }
}
