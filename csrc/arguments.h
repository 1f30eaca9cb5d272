// Structs filled from Python's keyword arguments by the tables of fields.h. An unknown or missing
// field and one of a wrong type are a TypeError, a number out of range is a ValueError; both name
// the op and the field.
#pragma once

#include <pybind11/pybind11.h>

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

// From `lowest` to what T can hold.
template <class T>
void read_whole(const Argument& argument, int lowest, T& field) {
  if (!PyIndex_Check(argument.value) || PyBool_Check(argument.value)) {
    argument.wrong_type("a whole number");
  }
  const auto index = pybind11::reinterpret_steal<pybind11::object>(PyNumber_Index(argument.value));
  if (!index) throw pybind11::error_already_set();
  constexpr T kLargest = std::numeric_limits<T>::max();
  bool fits = false;
  if constexpr (std::is_signed_v<T>) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    fits = overflow == 0 && number >= lowest && number <= kLargest;
    field = static_cast<T>(number);
  } else {
    const unsigned long long number = PyLong_AsUnsignedLongLong(index.ptr());
    const bool overflow = PyErr_Occurred();
    PyErr_Clear();
    fits = !overflow && number <= kLargest;
    field = static_cast<T>(number);
  }
  if (!fits) {
    argument.out_of_range(std::to_string(lowest) + " to " + std::to_string(kLargest));
  }
}

// Sizes and counts, never negative; only a device is an int, from -1 on.
template <class T>
std::enable_if_t<std::is_integral_v<T>> read(const Argument& argument, T& field) {
  read_whole(argument, std::is_same_v<T, int> ? -1 : 0, field);
}

template <class T>
void read(const Argument& argument, T*& field) {
  std::uintptr_t address = 0;
  read_whole(argument, 0, address);
  field = reinterpret_cast<T*>(address);
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

// They live as long as the process.
template <class Op>
const std::vector<PyObject*>& field_names() {
  static const auto* names = new std::vector<PyObject*>(interned_names(Fields<Op>::kNames));
  return *names;
}

// Sets a field from the keyword arguments; tells whether it was among them.
template <class Field>
bool set_field(const char* op, PyObject* name, PyObject* arguments, Field&& field) {
  PyObject* value = PyDict_GetItemWithError(arguments, name);
  const Argument argument{op, name, value};
  if (value) {
    read(argument, field);
  } else if (!kIsOptional<std::decay_t<Field>>) {
    throw pybind11::type_error(argument.label() + " is missing");
  }
  return value != nullptr;
}

// Fills a struct from some of the keyword arguments of `op`; tells how many.
template <class Op>
Py_ssize_t set_fields(const char* op, PyObject* arguments, Fields<Op>& target) {
  const std::vector<PyObject*>& names = field_names<Op>();
  return std::apply(
      [&](auto&&... field) {
        std::size_t i = 0;
        Py_ssize_t count = 0;
        ((count += set_field(op, names[i++], arguments, field)), ...);
        return count;
      },
      target.references());
}

// Throws for the first keyword argument that is in none of the tables.
template <class... Op>
[[noreturn]] void throw_unknown(const char* op, PyObject* arguments) {
  PyObject *name = nullptr, *value = nullptr;
  Py_ssize_t position = 0;
  std::string expected;
  const auto has = [&](const std::vector<PyObject*>& names) {
    for (PyObject* each : names) {
      if (PyUnicode_Compare(each, name) == 0) return true;
    }
    return false;
  };
  while (PyDict_Next(arguments, &position, &name, &value) && (has(field_names<Op>()) || ...)) {
  }
  const auto list = [&](const std::vector<PyObject*>& names) {
    for (PyObject* field : names) {
      expected +=
          (expected.empty() ? "" : ", ") + pybind11::cast<std::string>(pybind11::handle(field));
    }
  };
  (list(field_names<Op>()), ...);
  const Argument argument{op, name, value};
  throw pybind11::type_error(argument.label() + " is unknown; expected " + expected);
}

// Fills several structs, which share out the keyword arguments of `op`.
template <class... Op>
std::tuple<Op...> from_arguments(const char* op, const pybind11::kwargs& arguments) {
  std::tuple<Fields<Op>...> filled{};
  const Py_ssize_t count = std::apply(
      [&](auto&... target) { return (set_fields<Op>(op, arguments.ptr(), target) + ...); }, filled);
  if (count != PyDict_GET_SIZE(arguments.ptr())) throw_unknown<Op...>(op, arguments.ptr());
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
