// A field of an op whatever its type: where it is, what Python must pass for it, and how that is
// read. One loop fills the fields of every op, which compiles in half the time of one for each.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cassert>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

namespace sleeptools {

// A value that Python passed for a field.
struct Argument {
  const char* op;
  PyObject* name;
  PyObject* value;

  std::string label() const {
    return std::string(op) + ": " + pybind11::cast<std::string>(pybind11::handle(name));
  }

  std::string text() const {
    return label() + " is " + pybind11::cast<std::string>(pybind11::repr(value));
  }

  [[noreturn]] void wrong_type(const char* expected) const {
    throw pybind11::type_error(text() + " (" + Py_TYPE(value)->tp_name + "); expected " + expected);
  }

  [[noreturn]] void out_of_range(const std::string& expected) const {
    throw pybind11::value_error(text() + "; expected " + expected);
  }
};

// Kinds of fields: what Python must pass, and how it is read.

inline std::string kind(bool) { return "bool"; }
inline std::string kind(float) { return "number"; }
inline std::string kind(const void*) { return "address"; }
template <class T>
std::enable_if_t<std::is_integral_v<T>, std::string> kind(T) {
  return (std::is_signed_v<T> ? "int" : "uint") + std::to_string(8 * sizeof(T));
}

inline void read(const Argument& argument, bool& field) {
  if (!PyBool_Check(argument.value)) argument.wrong_type("True or False");
  field = argument.value == Py_True;
}

inline void read(const Argument& argument, float& field) {
  const bool numeric = PyFloat_Check(argument.value) || PyIndex_Check(argument.value);
  if (!numeric || PyBool_Check(argument.value)) argument.wrong_type("a number");
  field = static_cast<float>(PyFloat_AsDouble(argument.value));
  if (PyErr_Occurred()) throw pybind11::error_already_set();
}

// A Python int from `lowest` to what T can hold.
template <class T>
T whole_number(const Argument& argument, PyObject* number, int lowest) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  if constexpr (std::is_signed_v<T>) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow == 0 && value >= lowest && value <= kLargest) return static_cast<T>(value);
  } else {
    const unsigned long long value = PyLong_AsUnsignedLongLong(number);
    const bool failed = value == static_cast<unsigned long long>(-1) && PyErr_Occurred();
    if (!failed && value <= kLargest) return static_cast<T>(value);
    PyErr_Clear();
  }
  argument.out_of_range(std::to_string(lowest) + " to " + std::to_string(kLargest));
}

// Sizes and counts, never negative; only a device is an int, from -1 on.
template <class T>
std::enable_if_t<std::is_integral_v<T>> read(const Argument& argument, T& field) {
  constexpr int kLowest = std::is_same_v<T, int> ? -1 : 0;
  if (PyLong_CheckExact(argument.value)) {
    field = whole_number<T>(argument, argument.value, kLowest);
    return;
  }
  if (!PyIndex_Check(argument.value) || PyBool_Check(argument.value)) {
    argument.wrong_type("a whole number");
  }
  const auto index = pybind11::reinterpret_steal<pybind11::object>(PyNumber_Index(argument.value));
  if (!index) throw pybind11::error_already_set();
  field = whole_number<T>(argument, index.ptr(), kLowest);
}

// An address, or a C-contiguous array, which the caller keeps alive.
template <class T>
void read(const Argument& argument, T*& field) {
  if (PyLong_CheckExact(argument.value)) {
    field = reinterpret_cast<T*>(whole_number<std::uintptr_t>(argument, argument.value, 0));
    return;
  }
  if (!PyObject_CheckBuffer(argument.value)) argument.wrong_type("an array or its address");
  Py_buffer view;
  const int flags = std::is_const_v<T> ? PyBUF_SIMPLE : PyBUF_WRITABLE;
  if (PyObject_GetBuffer(argument.value, &view, flags) != 0) {
    throw pybind11::error_already_set();
  }
  field = static_cast<T*>(view.buf);
  const Py_ssize_t size = view.itemsize;
  PyBuffer_Release(&view);
  if constexpr (std::is_arithmetic_v<T>) {
    if (size != sizeof(T)) {
      throw pybind11::type_error(argument.label() + " has items of " + std::to_string(size) +
                                 " bytes; expected " + std::to_string(sizeof(T)));
    }
  }
}

// A pointer that may be left out, and is null then.
template <class T>
struct Optional {
  T*& pointer;
};

template <class T>
Optional<T> optional(T*& pointer) {
  return {pointer};
}

class Field {
 public:
  Field() = default;
  template <class T>
  Field(T& variable)  // NOLINT: tables list variables as they are
      : variable_(&variable), kind_(&kind_of<T>), read_(&read_into<T>) {}
  template <class T>
  Field(Optional<T> optional) : Field(optional.pointer) {
    is_optional_ = true;
  }

  std::string kind() const { return kind_() + (is_optional_ ? " or None" : ""); }

  // A value that is null was not passed.
  void set(const Argument& argument) const {
    if (argument.value == nullptr && !is_optional_) {
      throw pybind11::type_error(argument.label() + " is missing");
    }
    if (argument.value && !(is_optional_ && argument.value == Py_None)) {
      read_(argument, variable_);
    }
  }

 private:
  template <class T>
  static std::string kind_of() {
    return sleeptools::kind(T{});
  }
  template <class T>
  static void read_into(const Argument& argument, void* variable) {
    read(argument, *static_cast<T*>(variable));
  }

  void* variable_ = nullptr;
  std::string (*kind_)() = nullptr;
  void (*read_)(const Argument&, void*) = nullptr;
  bool is_optional_ = false;
};

// The fields of an op, in the order of its table.
struct FieldTable {
  static constexpr std::size_t kMost = 32;

  FieldTable(std::initializer_list<Field> listed) : size(listed.size()) {
    assert(size <= kMost);
    std::copy(listed.begin(), listed.end(), fields);
  }

  // Sets each from the value of its name; `names` and `values` are in the order of the table.
  void set(const char* op, PyObject* const* names, PyObject* const* values) const {
    for (std::size_t i = 0; i < size; ++i) fields[i].set({op, names[i], values[i]});
  }

  Field fields[kMost];
  std::size_t size;
};

}  // namespace sleeptools
