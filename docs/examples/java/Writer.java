import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;

/** Places orders, each with its event, for the relay to carry to Kafka. */
public class Writer {
    record OrderPlaced(long order_id, String customer, long total_cents) {}

    static final ObjectMapper JSON = new ObjectMapper();

    /** Commits the order and its event, or neither. */
    static void placeOrder(Connection db, String customer, long totalCents) throws Exception {
        try {
            long id;
            try (var insert = db.prepareStatement("insert into orders (customer, total_cents) values (?, ?) returning id")) {
                insert.setString(1, customer);
                insert.setLong(2, totalCents);
                var rows = insert.executeQuery();
                rows.next();
                id = rows.getLong(1);
            }
            try (var insert = db.prepareStatement("""
                    insert into outbox (aggregate_type, aggregate_id, event_type, payload)
                    values ('order', ?, 'OrderPlaced', ?::jsonb)""")) {
                insert.setString(1, Long.toString(id));
                insert.setString(2, JSON.writeValueAsString(new OrderPlaced(id, customer, totalCents)));
                insert.executeUpdate();
            }
            db.commit();
        } catch (SQLException e) {
            db.rollback();
            throw e;
        }
    }

    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(args[0]);
        String[] customers = {"ada", "ben", "cyd"};
        try (var db = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            db.setAutoCommit(false);
            for (int i = 0; i < count; i++) {
                placeOrder(db, customers[i % customers.length], 100L * (i + 1));
            }
        }
    }
}
