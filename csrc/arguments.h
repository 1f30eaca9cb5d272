// Structs filled from Python's keyword arguments by the tables of fields.h. An unknown or missing
// field and one of a wrong type are a TypeError, a number out of range is a ValueError; both name
// the op and the field. Keywords in the order of the table are found soonest.
#pragma once

#include <pybind11/pybind11.h>

#include <cassert>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "fields.h"

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

inline const char* kind(bool) { return "bool"; }
inline const char* kind(float) { return "number"; }
inline const char* kind(const void*) { return "address"; }
template <class T>
const char* kind(const Optional<T>&) {
  return "address or None";
}
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

template <class T>
void read(const Argument& argument, const Optional<T>& field) {
  if (argument.value != Py_None) read(argument, field.pointer);
}

template <class T>
constexpr bool kIsOptional = false;
template <class T>
constexpr bool kIsOptional<Optional<T>> = true;

// The names in a table as Python's keywords are: interned. "x, optional(norm.eps)" is x and eps.
inline std::vector<PyObject*> interned_names(const char* text) {
  std::vector<PyObject*> names;
  for (const char* end = text; *end != '\0'; text = end + (*end != '\0')) {
    end = text + std::strcspn(text, ",");
    std::string name(text, end);
    name.erase(0, name.find_last_of(" (.") + 1);
    if (name.back() == ')') name.pop_back();
    names.push_back(PyUnicode_InternFromString(name.c_str()));
  }
  return names;
}

// Of several tables in turn; they live as long as the process.
template <class... Op>
const std::vector<PyObject*>& field_names() {
  static const auto* names = [] {
    auto* all = new std::vector<PyObject*>;
    for (const char* text : {Fields<Op>::kNames...}) {
      for (PyObject* name : interned_names(text)) all->push_back(name);
    }
    return all;
  }();
  return *names;
}

// Where a name is in a table, or its size; from `start` on and around.
inline std::size_t index_of(PyObject* name, const std::vector<PyObject*>& names,
                            std::size_t start) {
  const std::size_t count = names.size();
  for (std::size_t i = start; i < count; ++i) {
    if (names[i] == name) return i;
  }
  for (std::size_t i = 0; i < start; ++i) {
    if (names[i] == name) return i;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (PyUnicode_Compare(names[i], name) == 0) return i;
  }
  return count;
}

[[noreturn]] inline void throw_unknown(const Argument& argument,
                                       const std::vector<PyObject*>& names) {
  std::string message = argument.label() + " is unknown; expected";
  const char* separator = " ";
  for (PyObject* name : names) {
    message += separator + pybind11::cast<std::string>(pybind11::handle(name));
    separator = ", ";
  }
  throw pybind11::type_error(message);
}

template <class Field>
void set_field(const Argument& argument, Field&& field) {
  if (argument.value) {
    read(argument, field);
  } else if (!kIsOptional<std::decay_t<Field>>) {
    throw pybind11::type_error(argument.label() + " is missing");
  }
}

// The arguments of a call, as CPython's METH_FASTCALL | METH_KEYWORDS hands them on.
struct Arguments {
  PyObject* const* values;
  Py_ssize_t positional;
  PyObject* keywords;  // tuple of their names, or null
};

// Fills several structs, which share out the keyword arguments of `op`.
template <class... Op>
std::tuple<Op...> from_arguments(const char* op, const Arguments& arguments) {
  constexpr std::size_t kMost = 40;  // fields
  const std::vector<PyObject*>& names = field_names<Op...>();
  PyObject* values[kMost] = {};
  assert(names.size() <= kMost);
  if (arguments.positional != 0) {
    throw pybind11::type_error(std::string(op) + " takes keyword arguments only");
  }
  const Py_ssize_t count = arguments.keywords ? PyTuple_GET_SIZE(arguments.keywords) : 0;
  std::size_t next = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* name = PyTuple_GET_ITEM(arguments.keywords, i);
    const std::size_t index = index_of(name, names, next);
    if (index == names.size()) throw_unknown({op, name, nullptr}, names);
    values[index] = arguments.values[i];
    next = index + 1;
  }
  std::tuple<Fields<Op>...> filled{};
  std::size_t i = 0;
  const auto set = [&](auto&&... field) {
    ((set_field({op, names[i], values[i]}, field), ++i), ...);
  };
  std::apply([&](auto&... target) { (std::apply(set, target.references()), ...); }, filled);
  return filled;
}

// The kind of each field, under its name.
template <class... Op>
pybind11::dict field_kinds() {
  pybind11::dict kinds;
  const auto add = [&](const std::vector<PyObject*>& names, auto fields) {
    std::apply(
        [&](auto&&... field) {
          std::size_t i = 0;
          ((kinds[pybind11::handle(names[i++])] = kind(field)), ...);
        },
        fields);
  };
  const auto add_all = [&](auto... op) { (add(field_names<Op>(), op.references()), ...); };
  add_all(Fields<Op>{}...);
  return kinds;
}

}  // namespace sleeptools
