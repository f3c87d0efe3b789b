// Numbers for people: grouped digits, bytes, rates, durations and times. The same everywhere in the tool.

enum Amount {
  /// 1234567 as "1,234,567".
  static func count(_ value: some BinaryInteger) -> String {
    let digits = String(value.magnitude)
    var text = value < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text += "," }
      text.append(digit)
    }
    return text
  }

  /// "1 change", "2,000 changes".
  static func count(_ value: some BinaryInteger, _ noun: String) -> String {
    "\(count(value)) \(noun)\(value == 1 ? "" : "s")"
  }

  /// Bytes in units of 1,000: "512 B", "1.5 kB", "20.3 MB".
  static func bytes(_ value: some BinaryInteger) -> String {
    var number = Double(value)
    if number < 1000 { return "\(value) B" }
    for unit in ["kB", "MB", "GB", "TB"] {
      number /= 1000
      if number < 999.95 || unit == "TB" { return "\(decimal(number, places: 1)) \(unit)" }
    }
    return "\(value) B"
  }

  static func rate(_ amount: some BinaryInteger, in duration: Duration) -> String {
    "\(count(Int(perSecond(amount, in: duration))))/s"
  }

  static func perSecond(_ amount: some BinaryInteger, in duration: Duration) -> Double {
    Double(amount) / max(seconds(duration), 1e-6)
  }

  static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
  }

  static func decimal(_ value: Double, places: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "0" }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let scaled = Int((value.magnitude * scale).rounded())
    let whole = scaled / Int(scale)
    let fraction = String(scaled % Int(scale))
    let sign = value < 0 && scaled > 0 ? "-" : ""
    return places == 0
      ? "\(sign)\(whole)"
      : "\(sign)\(whole).\(String(repeating: "0", count: places - fraction.count))\(fraction)"
  }

  /// Unix milliseconds as "2026-01-31T23:59:59.123Z".
  static func time(milliseconds: UInt64) -> String {
    let days = Int(milliseconds / 86_400_000)
    let inDay = Int(milliseconds % 86_400_000)
    // Days since 0000-03-01, cut into 400-year cycles: the leap day is then the last day of a year.
    let shifted = days + 719_468
    let cycle = shifted / 146_097
    let dayOfCycle = shifted % 146_097
    let yearOfCycle = (dayOfCycle - dayOfCycle / 1460 + dayOfCycle / 36_524 - dayOfCycle / 146_096) / 365
    let dayOfYear = dayOfCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    let year = yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0)
    return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(padded(inDay / 3_600_000, 2))"
      + ":\(padded(inDay / 60_000 % 60, 2)):\(padded(inDay / 1000 % 60, 2)).\(padded(inDay % 1000, 3))Z"
  }

  private static func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
