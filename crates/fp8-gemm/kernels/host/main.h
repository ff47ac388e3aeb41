// Reads operands, grid and parameters; runs the blocks of the grid in random order; writes the operands back.
namespace host {
struct Parameter {
  TMap map;
  u8* pointer;
  u32 number;
  operator TMap() const { return map; }
  operator u32() const { return number; }
  template <class T> operator T*() const { return (T*)pointer; }
};
static std::vector<Parameter> p;

static void thread_body() {
  CALL;
  current->ended = true;
  ++progress;
  swapcontext(&current->context, &scheduler);
}

template <class T> static T read() {
  T v;
  if (fread(&v, sizeof v, 1, stdin) != 1) fail("input ends early");
  return v;
}

static void run_block(u32 threads) {
  static std::vector<u8> stacks;
  const size_t stack = 1 << 16;
  stacks.resize(threads * stack);
  memset(shared, 0xff, sizeof shared);  // NaN as a code, as BF16 and as f32
  barriers.clear();
  gates.clear();
  copies.clear();
  fibers.clear();
  fibers.resize(threads);
  for (u32 t = 0; t < threads; ++t) {
    Fiber& f = fibers[t];
    f.thread = {t, 0, 0};
    f.ended = false;
    f.waits = NOTHING;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = &stacks[t * stack];
    f.context.uc_stack.ss_size = stack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, thread_body, 0);
  }
  for (;;) {
    const u64 before = progress;
    u32 alive = 0;
    const u32 first = random_below(threads);
    for (u32 i = 0; i < threads; ++i) {
      Fiber& f = fibers[(first + i) % threads];
      if (f.ended) continue;
      ++alive;
      if (!ready(f)) continue;
      // A warp may lag behind for some rounds.
      if (random_below(4) == 0 && progress != before) continue;
      current = &f;
      swapcontext(&scheduler, &f.context);
    }
    const u32 arriving = copies.empty() ? 0 : 1 + random_below((u32)copies.size());
    for (u32 i = 0; i < arriving && (progress == before || random_below(2)); ++i) {
      const u32 which = random_below((u32)copies.size());
      const Copy c = copies[which];
      copies.erase(copies.begin() + which);
      bring(c);
    }
    if (alive == 0) break;
    if (progress == before) fail("deadlock");
  }
  if (!copies.empty()) fail("copies are left over");
}
}  // namespace host

int main() {
  using namespace host;
  std::vector<std::vector<u8>> operands(read<u32>());
  std::vector<bool> table(operands.size());
  for (size_t i = 0; i < operands.size(); ++i) {
    table[i] = read<u8>();
    operands[i].resize(read<u64>());
    if (!operands[i].empty() && fread(operands[i].data(), operands[i].size(), 1, stdin) != 1) fail("input ends early");
  }
  for (size_t i = 0; i < operands.size(); ++i)  // tables of operands become tables of their addresses
    for (size_t at = 0; table[i] && at < operands[i].size(); at += 8) {
      u64 which;
      memcpy(&which, &operands[i][at], 8);
      const u64 address = (u64)(uintptr_t)operands[which].data();
      memcpy(&operands[i][at], &address, 8);
    }
  grid.x = read<u32>();
  grid.y = read<u32>();
  grid.z = read<u32>();
  block_threads = read<u32>();
  random_state = read<u64>();
  p.resize(read<u32>());
  for (Parameter& q : p) {
    const u8 kind = read<u8>();
    const u32 value = read<u32>();
    q.number = value;
    q.pointer = kind < 2 && value != 0xffffffffu ? operands[value].data() : nullptr;
    if (kind == 0) {
      q.map.data = q.pointer;
      q.map.bytes = read<u32>();
      q.map.rows = read<u64>();
      q.map.cols = read<u64>();
      q.map.stride = read<u64>();
      q.map.box_rows = read<u32>();
      q.map.box_cols = read<u32>();
      q.map.swizzled = read<u32>();
    }
  }
  std::vector<u32> order(grid.x * grid.y * grid.z);
  for (u32 i = 0; i < order.size(); ++i) order[i] = i;
  for (u32 i = (u32)order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
  for (u32 b : order) {
    block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block(block_threads);
  }
  for (size_t i = 0; i < operands.size(); ++i)
    if (!table[i] && !operands[i].empty()) fwrite(operands[i].data(), operands[i].size(), 1, stdout);
  return 0;
}
